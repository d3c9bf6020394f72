"""From labelled reports to logits, from these to a task's calibration, and what that calibration decides about reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.evaluation.calibration import Threshold
from engine.models.base import Say
from engine.models.code_calibrate import ISOTONIC, PER_CLASS, TEMPERATURE, Settings
from engine.models.code_decide import MORE_SURE_THAN_NOT, adjusted, answer, nearest, probabilities
from engine.models.code_task import Task, TaskCalibration
from engine.models.columns import matrix
from engine.models.options import CodeOptions
from engine.models.run import records_of
from engine.models.token_system import TokenSystem
from engine.records import AUTO

# The share of known reports that may lie farther from the centres than any other, and the fewest that can tell where it begins.
OUTLIERS, LEAST = 0.005, 400
_STARTS = 3


def scored(
    system: TokenSystem, table: pa.Table, say: Say, what: str = "", at_once: int = 1024
) -> tuple[pa.Table, dict[str, NDArray]]:
    """What the product makes of labelled reports: the rows whose text has tokens, and of these each task's logits [rows, labels].

    Args:
        table: `record_id`, `text`, perhaps `pair`, and what else the rows are to keep. what: what `say` is to call them.
            at_once: of so many reports that is held which is prepared for the model.
    Raises:
        ConfigError: no row has a text.
    """
    kept, scores, table = [], [], table.filter(table["text"].is_valid())
    for start in range(0, len(table), at_once):
        part = table.slice(start, at_once)
        given = (part[name].to_pylist() for name in ("record_id", "text", "pair") if name in part.column_names)
        prepared = system.prepare(records_of(*given))
        sound = prepared["failure"].is_null()
        kept.append(part.filter(sound).drop_columns(["text"]))
        scores.append(system.scores(prepared.filter(sound)))
        say(f"scored {min(start + at_once, len(table)):,} of {len(table):,}{what}")
    if not sum(map(len, kept)):
        raise ConfigError("data.text: none of the labelled reports has a text")
    found = pa.concat_tables(scores)
    return pa.concat_tables(kept), {task: matrix(found[f"{task}_logits"]) for task in system.known()}


@dataclass(frozen=True)
class Outcome:
    """Labelled rows of one task: which they are, codes as text, how sure the model is and whether it is right, [n] each.

    `scores` and `targets` are what a temperature is fitted on: logits and columns, of a multi-label task one row a yes or no.
    """

    rows: NDArray
    gold: NDArray
    predicted: NDArray
    sure: NDArray
    right: NDArray
    scores: NDArray
    targets: NDArray
    macro_f1: float | None = None


def gold(values: Sequence[Any], task: Task) -> NDArray:
    """Labels as numbers: [n] columns, -1 for none or an unknown code; for a multi-label task [n, labels] of 1, 0, -1 for none."""
    index = {label: number for number, label in enumerate(task.labels)}
    if not task.multi_label:
        return np.array([index.get(value, -1) for value in values], dtype=np.int64)
    found = np.zeros((len(values), len(task.labels)), dtype=np.int64)
    for row, codes in enumerate(values):
        if codes is None:
            found[row] = -1
        else:
            found[row, [index[code] for code in codes if code in index]] = 1
    return found


def outcome(task: Task, values: Sequence[Any], logits: NDArray, fitted: TaskCalibration) -> Outcome:
    """What the model answers under a calibration, beside the labels.

    Args:
        values: a code, for a multi-label task a list of codes, or None for a row that counts nowhere. logits: [rows, labels].
    """
    rows = np.flatnonzero([value is not None for value in values])
    values, logits = [values[row] for row in rows], logits[rows]
    target = gold(values, task)
    prob = probabilities(logits, fitted.temperature, task.multi_label)
    labels = np.array(task.labels)
    if not task.multi_label:
        prob = adjusted(prob, fitted)
        best = prob.argmax(-1)
        return Outcome(rows, np.array(values), labels[best], prob.max(-1), best == target, logits, target)
    chosen = prob > MORE_SURE_THAN_NOT
    flat = logits.reshape(-1, 1)
    sure = np.maximum(prob, 1 - prob).min(-1)
    return Outcome(
        rows,
        np.array([";".join(sorted(codes)) for codes in values]),
        np.array([";".join(labels[row]) for row in chosen]),
        sure if fitted.isotonic is None else np.interp(sure, *fitted.isotonic),
        (chosen == (target == 1)).all(-1),
        np.hstack([np.zeros_like(flat), flat]),
        target.reshape(-1),
        float(f1_score(target, chosen, average="macro", zero_division=0)),
    )


def fit(
    task: Task,
    values: Sequence[Any],
    logits: NDArray,
    target: float,
    confidence: float = 0.95,
    method: str = TEMPERATURE,
    fitted_on: str = "valid",
    known: TaskCalibration | None = None,
) -> TaskCalibration:
    """A task's calibration from labelled reports that the model has not been trained on.

    Every method fits a temperature and where reports lie (`centred`). `temperature` then fits one threshold (`fit_threshold`).
    `isotonic` adds a curve that makes the probabilities honest; it rises everywhere, so that the same reports are kept.
    `per_class` fits a threshold for each code with reports enough, so that the promise holds for each of them alone, and one for
    the rest together. With `known`, a calibration of the same model, the centres stay and the radius grows to hold these reports.

    Raises:
        ConfigError: `per_class` for a task with several codes a report.
    """
    if method == PER_CLASS and task.multi_label:
        raise ConfigError(f"method: task {task.name} gives several codes at once; use temperature or isotonic")
    raw = outcome(task, values, logits, TaskCalibration())
    t = calibration.temperature(raw.scores, raw.targets)
    found = outcome(task, values, logits, TaskCalibration(t))
    curve = calibration.isotonic(found.sure, found.right) if method == ISOTONIC else None
    by_code = None
    if method == PER_CLASS:
        by_code, cut = _by_code(found, target, confidence)
    else:
        cut = calibration.fit_threshold(found.sure, found.right, target, confidence, _STARTS)
    threshold = cut.threshold
    if curve is not None and threshold <= 1:
        threshold = float(np.interp(threshold, *curve))
    figures = {
        **asdict(cut),
        "fitted_on": fitted_on,
        "n": len(found.rows),
        "kept": cut.n,
        "ece_before": calibration.expected_calibration_error(raw.sure, raw.right),
        "ece_after": calibration.expected_calibration_error(found.sure, found.right),
    }
    fitted = TaskCalibration(t, threshold, figures, curve, by_code)
    if known is None:
        return fitted if task.multi_label else replace(fitted, **centred(found.scores))
    farthest = known.farthest
    if known.centres is not None:
        farthest = max(farthest, float(np.quantile(nearest(found.scores, known.centres), 1 - OUTLIERS)))
    return replace(fitted, centres=known.centres, farthest=farthest)


def centred(logits: NDArray) -> dict[str, Any]:
    """`centres` and `farthest` of a calibration from logits [n, labels] of reports that the model has not been trained on.

    The radius is taken from distances to centres in which a report had no part, five folds by turns. With fewer than `LEAST`
    reports there are none, since a radius from few would shut out many that are like them.
    """
    if len(logits) < LEAST:
        return {}
    fold = np.arange(len(logits)) % 5
    apart = np.concatenate([nearest(logits[fold == each], _centres(logits[fold != each])) for each in range(5)])
    centres = tuple(tuple(round(float(value), 3) for value in centre) for centre in _centres(logits))
    return {"centres": centres, "farthest": round(float(np.quantile(apart, 1 - OUTLIERS)), 3)}


def _centres(logits: NDArray) -> NDArray:
    given = logits.argmax(-1)
    return np.stack([logits[given == label].mean(0, dtype=np.float64) for label in np.unique(given)])


def decided(
    task: Task, values: Sequence[Any], logits: NDArray, fitted: TaskCalibration, min_support: int = CodeOptions.min_support
) -> list[tuple[bool, bool, float]]:
    """For each labelled row in order: coded without a person as far as this task goes, right, and the stated probability."""
    found = outcome(task, values, logits, fitted)
    options = CodeOptions(min_support=min_support)
    answers = [answer(task, each, fitted, options, shown=1) for each in logits[found.rows]]
    return [(a.decision == AUTO, bool(right), a.prob) for a, right in zip(answers, found.right, strict=True)]


@dataclass(frozen=True)
class Effect:
    """What a calibration does to `n` labelled reports: `kept` of them coded without a person, `right` of those right.

    `error` is the expected calibration error over all of them.
    """

    n: int
    kept: int
    right: int
    error: float

    @classmethod
    def of(cls, decisions: Sequence[tuple[bool, bool, float]]) -> "Effect":
        """From what `decided` tells of each report."""
        kept, right, prob = (np.array(each) for each in zip(*decisions, strict=True))
        return cls(
            len(decisions), int(kept.sum()), int((kept & right).sum()), calibration.expected_calibration_error(prob, right)
        )


@dataclass(frozen=True)
class Recalibrated:
    """The new calibration, fitted on all labelled reports, beside the old one's effect on them (`before`).

    `after` is the effect of calibrations fitted without the group of each report, in `folds` parts; None with one group alone.
    """

    fitted: TaskCalibration
    before: Effect
    after: Effect | None
    folds: int


def recalibrate(
    task: Task, values: Sequence[Any], logits: NDArray, groups: Sequence[str], before: TaskCalibration, wanted: Settings
) -> Recalibrated | None:
    """Fits a task's calibration on the labelled reports; None where no report has a label.

    Args:
        values: a code, for a multi-label task a list of codes, or None. logits: [rows, labels]. groups: one key a row, such as
            the patient; reports of a group are held out together.
    """
    rows = np.flatnonzero([value is not None for value in values])
    if not rows.size:
        return None
    values, logits, groups = [values[row] for row in rows], logits[rows], [groups[row] for row in rows]

    def fitting(at: NDArray) -> TaskCalibration:
        mine = [values[row] for row in at]
        return fit(task, mine, logits[at], wanted.target, wanted.confidence, wanted.method, "own sample", before)

    def deciding(found: TaskCalibration, at: NDArray) -> list[tuple[bool, bool, float]]:
        return decided(task, [values[row] for row in at], logits[at], found, wanted.min_support)

    every, folds = np.arange(rows.size), min(wanted.folds, len(set(groups)))
    found, old = fitting(every), Effect.of(deciding(before, every))
    new = Effect.of(calibration.cross_fitted(fitting, deciding, groups, folds)) if folds > 1 else None
    figures = {**(found.figures or {}), "method": wanted.method, "before": vars(old), "folds": folds}
    if new is not None:
        figures["cross_fitted"] = vars(new)
    return Recalibrated(replace(found, figures=figures), old, new, folds)


def least_rows(target: float, confidence: float, method: str = TEMPERATURE) -> int:
    """The fewest labelled reports, all of them right, from which a threshold can be fitted; for `per_class`, of one code."""
    return calibration.smallest_provable(target, _level(confidence, method))


def highest_target(rows: int, confidence: float, method: str = TEMPERATURE) -> float:
    """The highest target for which `least_rows` is no more than `rows`, which is above 0."""
    return _level(confidence, method) ** (1 / rows)


def _level(confidence: float, method: str) -> float:
    """The error level of the first test, which decides how few reports can pass it."""
    return (1 - confidence) / (1 if method == PER_CLASS else _STARTS)


def _by_code(found: Outcome, target: float, confidence: float) -> tuple[dict[str, float], Threshold]:
    """A cut for each code that is given often enough to prove one, and one for all the others together.

    How many starts a code's sequence has (see `fit_threshold`) goes by the number of its reports alone. The figures beside the
    second cut are those of all cuts together.
    """
    least = calibration.smallest_provable(target, 1 - confidence)
    cuts = {}
    rest = np.ones(found.predicted.size, dtype=bool)
    for code in np.unique(found.predicted):
        mine = found.predicted == code
        if mine.sum() >= least:
            starts = _STARTS if mine.sum() >= 2 * least_rows(target, confidence) else 1
            cuts[str(code)] = calibration.fit_threshold(found.sure[mine], found.right[mine], target, confidence, starts).threshold
            rest &= ~mine
    other = calibration.NOTHING
    if rest.any():
        other = calibration.fit_threshold(found.sure[rest], found.right[rest], target, confidence, _STARTS).threshold
    kept = found.sure >= [cuts.get(str(code), other) for code in found.predicted]
    n, hits = int(kept.sum()), int((kept & found.right).sum())
    bound = calibration.lower_bound(hits, n, confidence) if n else None
    return cuts, Threshold(other, n, n / kept.size, hits / n if n else None, bound, target, confidence)
