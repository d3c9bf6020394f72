"""Calibration: a revision of a system of entities, tuned on a user's own marked texts, and its effect on those texts.

Tuned are the thresholds, and whether mentions nest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.calibration import cross_fitted
from engine.evaluation.spans import ALL, Mention, SpanFigures
from engine.evaluation.spans import measure as span_figures
from engine.models.base import Say
from engine.models.entities.calibrate import ENOUGH, LEAST, Data, Settings
from engine.models.entities.candidates import Decoding
from engine.models.entities.system import DECODING, EntitySystem
from engine.models.entities.tuning import MarkedTexts, score_texts
from engine.models.revision import Revision
from engine.sources.labelled import GoldSpans, Labelled, read_spans

_FIGURES = ("precision", "recall", "f1")


def revise(system: EntitySystem, settings: Settings, say: Say, tell: Say) -> Revision:
    """See `engine.models.revision.calibrate`.

    Raises:
        ConfigError: the marked texts cannot be used or are too few.
    """
    checkpoint = system.checkpoint
    marked, groups, lines = read_marked(settings.data, system.names)
    mentions = sum(map(len, marked.mentions))
    distinct = len({group for group, spans in zip(groups, marked.mentions, strict=True) if spans})
    if mentions < LEAST or distinct < 2:
        raise ConfigError(
            f"data.path: {mentions:,} marked mentions of the model's types in {distinct:,} different texts: too few. "
            f"Thresholds need at least {LEAST} in two texts, and {ENOUGH} to be reliable; mark more"
        )
    scored = score_texts(system, marked, say)
    rows, folds = np.arange(len(marked.ids)), min(settings.folds, len(set(groups)))
    say(f"tuning thresholds on {len(rows):,} texts, and in {folds} parts")

    def tuned(members: NDArray) -> Decoding:
        return scored.tune(checkpoint.decoding.alternatives(), members)[0]

    def figures(predicted: Sequence[Sequence[Mention]]) -> SpanFigures:
        gold, found = (dict(zip(map(str, rows), per_text, strict=True)) for per_text in (marked.mentions, predicted))
        return span_figures(gold, found, groups=dict(zip(map(str, rows), groups, strict=True)))

    decoding = tuned(rows)
    before = figures(scored.predict(checkpoint.decoding, rows))
    after = figures(cross_fitted(tuned, scored.predict, groups, folds))
    effect = _effect(before, after)
    changes = (f"{name} {getattr(checkpoint.decoding, name):g} -> {getattr(decoding, name):g}" for name in decoding.tuned)
    effect.append(f"thresholds: {', '.join(changes)}")
    if decoding.overlaps != checkpoint.decoding.overlaps:
        effect.append(f"mentions: {checkpoint.decoding.overlaps} -> {decoding.overlaps}")
    if (after["f1"] or 0.0) <= (before["f1"] or 0.0):
        effect.append("On texts not used to tune them, new thresholds are no better than the model's own: keep those.")
    if mentions < ENOUGH:
        effect.append(f"With fewer than {ENOUGH} mentions these figures are unreliable.")
    tell(f"{len(rows):,} texts with {mentions:,} marked mentions of the model's types.")
    tell("before: with the checkpoint's own thresholds. after: each text with new thresholds that were tuned on other texts.")
    tell("\n".join([*lines, *effect]))
    about = [
        "whose card follows. These replace its thresholds, whether mentions nest, and their figures: what has the best exact F1",
        "on texts that the user marked. `before` and `after` are figures on those texts, `after` with each text decided by",
        "thresholds that were tuned on other texts.",
    ]
    summary = {
        "sample": {"texts": len(rows), "mentions": mentions, "folds": folds},
        "before": {name: before[name] for name in _FIGURES},
        "cross_fitted": {name: after[name] for name in _FIGURES},
    }
    values = {"decoding": asdict(decoding), "figures": summary, "revision_of": checkpoint.digest}
    return Revision("the thresholds", about, effect, {DECODING: values})


def read_marked(data: Data, types: Sequence[str]) -> tuple[MarkedTexts, list[str], list[str]]:
    """The marked texts that the settings name, with mentions of a model's types only.

    Returns:
        The texts; for each a group, equal for equal texts, which are held out together; and what to tell about other marks.
    Raises:
        ConfigError: there is nothing to read, or none of the marked types is one of the model's.
    """
    gold = read_spans(Labelled(data.path, id=data.id), data.split)
    names = {name: data.types.get(name, name) for name in gold.types}
    _check_types(data, gold, names, types)
    lines = gold.broken.lines()
    others = [name for name in gold.types if names[name] not in types]
    if others:
        lines.append(f"{', '.join(others)}: not a type of the model, left out.")
    records = gold.records
    mentions = [
        sorted({(span["start"], span["end"], names[span["type"]]) for span in spans if names[span["type"]] in types})
        for spans in records["spans"].to_pylist()
    ]
    annotated = [frozenset(names[name] for name in gold.marked[dataset]) for dataset in records["dataset"].to_pylist()]
    marked = MarkedTexts(records["record_id"].to_pylist(), records["text"].to_pylist(), mentions, annotated)
    return marked, [digest.hex() for digest in records["text_sha256"].to_pylist()], lines


def _check_types(data: Data, gold: GoldSpans, names: Mapping[str, str], types: Sequence[str]) -> None:
    for name, other in data.types.items():
        if name not in names:
            raise ConfigError(f"data.types: nobody marked a '{name}'; there are {', '.join(gold.types) or 'no marked types'}")
        if other not in types:
            raise ConfigError(f"data.types: the model has no type '{other}'; it has {', '.join(types)}")
    if not set(names.values()) & set(types):
        raise ConfigError(
            f"data.path: none of the marked types ({', '.join(gold.types) or 'there are none'}) is one of the model's "
            f"({', '.join(types)}); data.types brings names together"
        )


def _effect(before: SpanFigures, after: SpanFigures) -> list[str]:
    """Figures over all types and of each, before and after, as lines."""

    def line(figures: SpanFigures, part: str) -> str:
        precision, recall, f1 = (figures.values[name, part] for name in _FIGURES)
        interval = "" if f1.low is None else f" ({f1.low:.3f} to {f1.high:.3f})"
        numbers = ["-" if each.value is None else f"{each.value:.3f}" for each in (f1, precision, recall)]
        return f"exact F1 {numbers[0]}{interval}, precision {numbers[1]}, recall {numbers[2]}"

    parts = {"all types": (ALL, before.mentions)}
    parts |= {name: (f"type={name}", before.marked[name]) for name in before.types if before.marked.get(name)}
    lines = []
    for title, (part, mentions) in parts.items():
        lines.append(f"{title}, {mentions:,} mentions:")
        lines += [f"  before              {line(before, part)}", f"  after, cross-fitted {line(after, part)}"]
    return lines
