"""From a user's labelled studies to a revision with new bounds and thresholds, and their effect in words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import sources
from engine.errors import ConfigError
from engine.evaluation.calibration import cross_fitted
from engine.evaluation.gold import Gold, GoldConfig, read_gold
from engine.models.base import Say
from engine.models.columns import matrix
from engine.models.findings.calibrate import Data, Settings
from engine.models.findings.decide import FindingCalibration
from engine.models.findings.fitting import Promise, fit_finding
from engine.models.findings.system import CALIBRATION, FindingSystem, calibration_file
from engine.models.revision import Revision
from engine.models.run import prepare
from engine.records import FINDINGS, IMAGES
from engine.sources import InputConfig
from engine.storage import storage_for

# Bytes of images between progress lines.
_AT_ONCE = 32 << 20


@dataclass(frozen=True)
class Effect:
    """What a calibration does with labelled studies of a finding: the shares of positives not called clearly negative, of
    negatives not called clearly positive, and of all that are unclear."""

    sensitivity: float
    specificity: float
    unclear: float

    @classmethod
    def of(cls, calls: Sequence[int], positive: NDArray) -> "Effect":
        """`calls` [n] are 1 (clearly positive), 0 (clearly negative) and -1 (unclear)."""
        calls = np.asarray(calls)
        return cls(float((calls[positive] != 0).mean()), float((calls[~positive] != 1).mean()), float((calls < 0).mean()))

    def __str__(self) -> str:
        return f"sensitivity {self.sensitivity:.3f}, specificity {self.specificity:.3f}, unclear {100 * self.unclear:.1f} %"


def revise(system: FindingSystem, settings: Settings, say: Say, tell: Say) -> Revision:
    """See `engine.models.revision.calibrate`.

    Raises:
        ConfigError: the studies cannot be used, or no finding has enough of them.
    """
    promise, before = settings.promise, system.checkpoint.calibration
    gold, names = _gold(settings.data, system.names)
    logits, states, groups = score_studies(system, settings.data, gold, names, say)
    fitted, lines, without = dict(before), [], []
    for at, name in enumerate(names):
        old = before.get(name, FindingCalibration())
        known = np.isin(states[:, at], (0, 1))
        columns = (logits[known, at], states[known, at] == 1, [groups[row] for row in np.flatnonzero(known)])
        fitted[name] = fit_finding(*columns[:2], promise, old)
        if fitted[name].promised:
            lines += _lines(name, *columns, old, fitted[name], settings)
        else:
            without.append(f"{name} ({fitted[name].positives:,} with, {fitted[name].negatives:,} without)")
    yes, no = promise.least
    if without:
        lines.append(
            f"No promise, for fewer than {yes:,} studies with the finding or {no:,} without it: {', '.join(without)}. A person "
            "must see their positives."
        )
    unanswered = [name for name in names if not fitted[name].answered]
    if unanswered:
        lines.append(f"Never answered, for lack of studies with the finding or without it: {', '.join(unanswered)}.")
    tell(f"{len(logits):,} labelled studies. A finding is promised {_promise(promise)}.")
    tell("before: with the checkpoint's own bounds. after: each study with new bounds that were fitted without its group.")
    tell("\n".join(lines))
    if len(without) == len(names):
        raise ConfigError(
            f"data.path: no revision is written, since no finding has the {yes:,} studies with it and {no:,} without it that a "
            "promise takes; give more labelled studies, or lower sensitivity and specificity"
        )
    about = [
        "whose card follows; what that says of thresholds and promises is replaced by this:",
        f"each finding is promised {_promise(promise)}, fitted on the user's labelled studies.",
        "`before` and `after` are figures on those studies, `after` with each study decided by bounds that have not seen its",
        "group.",
    ]
    values = json.loads((system.checkpoint.folder / CALIBRATION).read_text())
    files = calibration_file(fitted, **{**values, "promise": vars(promise), "revision_of": system.checkpoint.digest})
    return Revision("a calibration", about, lines, files)


def score_studies(
    system: FindingSystem, data: Data, gold: Gold, names: Sequence[str], say: Say
) -> tuple[NDArray, NDArray, list[str]]:
    """Runs the product's model on the labelled studies, a part of them in memory at a time.

    Returns:
        Logits and states [studies, names], a state being 1, 0, -1 or NaN, and the group of each study.
    Raises:
        ConfigError: none of the images can be read.
    """
    columns = [gold.table[name].to_pylist() for name in ("record_id", "group", "findings")]
    labelled = {name: (group, listed) for name, group, listed in zip(*columns, strict=True)}
    config = InputConfig(data.path, id=data.id, reads=IMAGES, image=data.image, study=data.study, root=data.root)
    storage = storage_for(data.path)
    at, logits, states, groups, failed = [system.names.index(name) for name in names], [], [], [], 0
    for shard in sources.cut(config, storage, sources.list_files(config, storage), _AT_ONCE, sources.input_base(config)):
        records = sources.read(config, storage, shard, [])
        wanted = [name in labelled for name in records["record_id"].to_pylist()]
        meta, prepared = prepare(system, records.filter(wanted))
        failed += len(meta) - meta["failure"].null_count
        if not len(prepared):
            continue
        scores = system.scores(prepared)
        ids = dict(zip(meta["row"].to_pylist(), meta["record_id"].to_pylist(), strict=True))
        for row, values in zip(scores["row"].to_pylist(), matrix(scores[f"{FINDINGS}_logits"]), strict=True):
            group, listed = labelled[ids[row]]
            of_study = {each["name"]: each["state"] for each in listed}
            logits.append(values[at])
            states.append([of_study.get(finding, np.nan) for finding in names])
            groups.append(f"study {ids[row]}" if group is None else f"group {group}")
        say(f"scored {len(logits):,} of {len(labelled):,} studies{f', {failed:,} cannot be read' if failed else ''}")
    if not logits:
        raise ConfigError("data.image: none of the labelled studies has an image that can be read")
    return np.stack(logits), np.array(states, float), groups


def _gold(data: Data, known: Sequence[str]) -> tuple[Gold, list[str]]:
    """The labelled studies by record id, and the model's findings that are labelled."""
    if (data.study is None) == (data.id is None):
        raise ConfigError("data.study: name the column with the studies' ids, or data.id, the column with the images' ids")
    for name in data.findings:
        if name not in known:
            raise ConfigError(f"data.findings: the model has no finding '{name}'; it has {', '.join(known)}")
    findings = data.list or data.findings or {name: name for name in known}
    columns = {"id": data.study or data.id, "findings": findings, "group": data.group}
    names = {"path": "data.path", "id": "data.id" if data.study is None else "data.study", "group": "data.group"}
    names["findings"] = names["labels"] = "data.list" if data.list else "data.findings"
    gold = read_gold(GoldConfig(data.path, **columns, names=names))
    listed = {each["name"] for of_study in gold.table["findings"].to_pylist() for each in of_study}
    return gold, [name for name in known if name in (listed if data.list else findings)]


def _lines(
    name: str,
    logits: NDArray,
    positive: NDArray,
    groups: Sequence[str],
    old: FindingCalibration,
    new: FindingCalibration,
    settings: Settings,
) -> list[str]:
    """The effect of a finding's old and new bounds."""

    def calls(fitted: FindingCalibration, members: NDArray) -> list[int]:
        prob = fitted.probabilities(logits[members])
        return np.where(fitted.unclear(prob), -1, fitted.positive(prob)).tolist()

    def fit(members: NDArray) -> FindingCalibration:
        return fit_finding(logits[members], positive[members], settings.promise, old)

    everything, folds = np.arange(len(logits)), min(settings.folds, len(set(groups)))
    after = "cannot be shown on studies of one group alone"
    if folds > 1:
        after = str(Effect.of(cross_fitted(fit, calls, groups, folds), positive))
    cut = "one cut" if new.lower == new.upper else f"unclear from {new.lower:.4f} to {new.upper:.4f}, threshold"
    return [
        f"{name}, {new.positives:,} studies with it, {new.negatives:,} without:",
        f"  before              {Effect.of(calls(old, everything), positive) if old.promised else 'no bounds'}",
        f"  after, cross-fitted {after}",
        f"  {cut} {new.threshold:.4f}",
    ]


def _promise(promise: Promise) -> str:
    """The promise in words."""
    shares = f"{100 * promise.sensitivity:g} % sensitivity and {100 * promise.specificity:g} % specificity"
    return f"{shares} outside the unclear range, each with {100 * promise.confidence:g} % confidence"
