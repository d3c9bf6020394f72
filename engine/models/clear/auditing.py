"""The audit of a model on labelled studies: what a label stands for in the data, where the model does worse and what is different
there, and what its answers are without a concept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.findings import ranking
from engine.evaluation.resample import draws, estimate
from engine.keys import check_keys
from engine.models.base import ModelSpec, Say, load
from engine.models.clear import audit, bank
from engine.models.clear.probe import auc
from engine.models.clear.system import Clear
from engine.models.findings.studies import Labels, StudyData, studies_of
from engine.pages import audit as pages
from engine.pages.pictures import data_uri
from engine.records import IMAGES

_THUMBNAIL = 160
# Studies whose pictures are kept for the page.
_PICTURED = 4000


class Settings(Protocol):
    """What an audit is asked, see `jobs.audit_concepts`."""

    data: StudyData
    part: str | None
    findings: Sequence[str]
    remove: Sequence[str]
    rounds: int


@dataclass(frozen=True)
class Seen:
    """The studies of an audit: images v [n, d], features [n, width], states [n, K], patients [n], and some pictures by row."""

    v: NDArray
    features: NDArray
    states: NDArray
    group: NDArray
    pictures: Mapping[int, NDArray] = field(default_factory=dict)


def run(spec: ModelSpec, settings: Settings, say: Say) -> dict[str, Any]:
    """The audit as plain values, see `engine.pages.audit.Audit`.

    Raises:
        ConfigError: the studies cannot be read, or no finding can be audited.
        InputChanged: the model's bank is not the one that it was made with.
    """
    check_keys(settings.data, "data.")
    system = load(spec)
    concepts = system.checkpoint.bank()
    labels = Labels.read(settings.data, system.names)
    seen = _seen(system, settings, labels, say)
    names = [name for name in settings.findings or system.names if _has_both(seen, system.names.index(name))]
    if not names:
        raise ConfigError("findings: none of them has both cases and others among these studies")
    clusters, centres = audit.clusters({"": seen.features})
    rows = system.ids
    embeddings = concepts.embeddings[np.asarray(rows)]
    audited = [_audited(system, seen, name, clusters[""], centres, embeddings, settings) for name in names]
    patients = len(set(seen.group.tolist()))
    note = f"{len(seen.v):,} studies of {patients:,} patients, {len(rows):,} concepts, model {system.digest[:12]}"
    return asdict(pages.Audit(audited, note=note))


def _seen(system: Clear, settings: Settings, labels: Labels, say: Say) -> Seen:
    ids, features, pictures = [], [], {}
    for prepared in studies_of(system, settings.data, settings.part):
        side = system.preprocessing.side
        for row, images in enumerate(prepared[IMAGES], start=len(ids)):
            if row < _PICTURED:
                pixels = np.frombuffer(images[0]["pixels"].as_py(), np.uint8).reshape(side, side)
                pictures[row] = pixels[:: max(1, side // _THUMBNAIL), :: max(1, side // _THUMBNAIL)]
        ids += prepared["record_id"].to_pylist()
        features.append(system.features(prepared).float().cpu().numpy())
        say(f"read {len(ids):,} studies")
    if not ids:
        raise ConfigError("data.path: no study has findings and an image that can be read; check part and data.findings")
    every = np.concatenate(features)
    return Seen(system.embedded(every)[0], every, labels.of(ids), labels.group_of(ids), pictures)


def _has_both(seen: Seen, finding: int) -> bool:
    return {0.0, 1.0} <= set(np.unique(seen.states[:, finding]).tolist())


def _audited(
    system: Clear, seen: Seen, name: str, clusters: NDArray, centres: NDArray, embeddings: NDArray, settings: Settings
) -> pages.Audited:
    finding = system.names.index(name)
    known = np.isin(seen.states[:, finding], (0, 1))
    v, right, group, cluster = (each[known] for each in (seen.v, seen.states[:, finding], seen.group, clusters))
    rows = np.flatnonzero(known)
    space, texts = system.space, system.texts
    z, _ = bank.embedding(v, space.matrix)
    prob = system.calibration[name].probabilities(z @ space.directions[:, finding] + space.intercepts[finding])
    of_data = audit.audit_data(v[right == 1], v[right == 0], space.t)
    answered = audit.Answered(v, cluster, prob, right)
    contrasts = {each.low.number: each for each in audit.audit_model(answered, centres, space.t)}

    clusters_of = _Clusters(cluster, rows, seen.pictures, prob, right, group, settings.rounds)
    listed = []
    for each in audit.areas(answered):
        contrast = contrasts.get(each.number)
        if contrast is None:
            listed.append(clusters_of.row(each))
        else:
            partner = clusters_of.row(contrast.partner, pictured=True)
            listed.append(clusters_of.row(each, True, partner, _ranked(contrast.concepts, texts)))
    removed = [
        _removal(system, finding, chosen, v, right, group, prob, embeddings, settings.rounds)
        for chosen in _to_remove(texts, settings.remove, of_data, contrasts)
    ]
    area, low, high = _interval(prob, right, group, settings.rounds)
    counts = int((right == 1).sum()), int((right == 0).sum())
    return pages.Audited(name, *counts, area, low, high, _ranked(of_data, texts), listed, removed)


@dataclass(frozen=True)
class _Clusters:
    """The images of a label [n] by their cluster, for the page; `rows` [n] are their numbers among all studies."""

    cluster: NDArray
    rows: NDArray
    pictures: Mapping[int, NDArray]
    prob: NDArray
    right: NDArray
    group: NDArray
    rounds: int

    def row(
        self,
        each: audit.Cluster,
        pictured: bool = False,
        partner: pages.Cluster | None = None,
        concepts: Sequence[pages.Ranked] = (),
    ) -> pages.Cluster:
        inside = self.cluster == each.number
        interval = (None, None)
        if each.area is not None:
            interval = _interval(self.prob[inside], self.right[inside], self.group[inside], self.rounds)[1:]
        own = [self.pictures[row] for row in self.rows[inside].tolist() if row in self.pictures] if pictured else []
        facts = (each.number, each.images, int((self.right[inside] == 1).sum()), each.area, *interval, each.q, each.skipped)
        return pages.Cluster(*facts, "", partner, concepts, [data_uri(pixels) for pixels in own[: pages.THUMBNAILS]])


def _ranked(concepts: audit.Concepts, texts: Sequence[str]) -> list[pages.Ranked]:
    q = concepts.q.tolist() if len(concepts.q) else [None] * len(concepts.ids)
    return [pages.Ranked(texts[row], float(score), of) for row, score, of in zip(concepts.ids, concepts.scores, q, strict=True)]


def _to_remove(
    texts: Sequence[str], wanted: Sequence[str], of_data: audit.Concepts, contrasts: Mapping[int, audit.Contrast]
) -> list[list[int]]:
    """The sets of concepts to remove: those whose text holds one of the wanted words, or the first of each audit."""
    if wanted:
        rows = [row for row, text in enumerate(texts) if any(word.lower() in text.lower() for word in wanted)]
        if not rows:
            raise ConfigError(f"remove: no concept of the model holds any of {', '.join(wanted)}")
        return [rows]
    first = [each.concepts.ids[:1].tolist() for each in contrasts.values() if len(each.concepts.ids)]
    return [list(each) for each in dict.fromkeys(tuple(each) for each in [of_data.ids[:1].tolist(), *first[:1]])]


def _removal(
    system: Clear, finding: int, chosen: list[int], v: NDArray, right: NDArray, group: NDArray, prob: NDArray,
    embeddings: NDArray, rounds: int,
) -> pages.Removal:  # fmt: skip
    space = system.space
    t = np.asarray(space.t[chosen], np.float64)
    z = audit.remove(v, space.matrix, t, embeddings[chosen], (v @ t.T).mean(0))
    after = system.calibration[system.names[finding]].probabilities(z @ space.directions[:, finding] + space.intercepts[finding])
    effect = audit.effect(prob, after, right)
    low, high = _difference(prob, after, right, group, rounds)
    return pages.Removal([system.texts[row] for row in chosen], effect.area, effect.probability, low, high)


def _interval(prob: NDArray, right: NDArray, group: NDArray, rounds: int) -> tuple[float | None, float | None, float | None]:
    """The area under the ROC curve with its 95 % interval, drawn by patient."""
    value = auc(right, prob)
    if value is None:
        return None, None, None
    drawn = [ranking(prob.astype(float), right, weights)[0] for weights in _weights(group, rounds)]
    figure = estimate(np.float64(value), drawn, 0.95)
    return figure.value, figure.low, figure.high


def _difference(
    before: NDArray, after: NDArray, right: NDArray, group: NDArray, rounds: int
) -> tuple[float | None, float | None]:
    """The interval of the change of the area, drawn by patient."""
    one, other = auc(right, before), auc(right, after)
    if one is None or other is None:
        return None, None
    drawn = [
        ranking(after.astype(float), right, weights)[0] - ranking(before.astype(float), right, weights)[0]
        for weights in _weights(group, rounds)
    ]
    figure = estimate(np.float64(other - one), drawn, 0.95)
    return figure.low, figure.high


def _weights(group: NDArray, rounds: int) -> list[NDArray]:
    _, number = np.unique(group.astype(str), return_inverse=True)
    return [counts[:, number].astype(float) for counts in draws(int(number.max()) + 1, rounds, 0, len(number))]
