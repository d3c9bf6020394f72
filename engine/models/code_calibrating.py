"""Scores labelled reports, fits a task's calibration on the logits, and shows its effect on the reports."""

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
from engine.models.code_decide import MORE_SURE_THAN_NOT, answer, calibrated, nearest
from engine.models.code_task import Task, TaskCalibration
from engine.models.columns import matrix
from engine.models.options import CodeOptions
from engine.models.run import records_of
from engine.models.token_system import TokenSystem
from engine.records import AUTO

# The share of calibration reports beyond the radius around the centres, and the fewest reports that can determine the radius.
OUTLIERS, MIN_FOR_CENTRES = 0.005, 400
# Starts of the sequence of tests, see `fit_threshold`.
_STARTS = 3


def score_reports(
    system: TokenSystem, table: pa.Table, say: Say, what: str = "", at_once: int = 1024
) -> tuple[pa.Table, dict[str, NDArray]]:
    """Runs the product's model on labelled reports; returns the rows whose text has tokens, and logits [rows, labels] by task.

    Args:
        table: `record_id`, `text`, `pair` if there is one, and further columns to return. what: name of the reports for `say`.
            at_once: number of reports whose prepared form is in memory at a time.
    Raises:
        ConfigError: no row has a text with tokens.
    """
    parts, scores, table = [], [], table.filter(table["text"].is_valid())
    for start in range(0, len(table), at_once):
        part = table.slice(start, at_once)
        columns = (part[name].to_pylist() for name in ("record_id", "text", "pair") if name in part.column_names)
        prepared = system.prepare(records_of(*columns))
        usable = prepared["failure"].is_null()
        parts.append(part.filter(usable).drop_columns(["text"]))
        scores.append(system.scores(prepared.filter(usable)))
        say(f"scored {min(start + at_once, len(table)):,} of {len(table):,}{what}")
    if not sum(map(len, parts)):
        raise ConfigError("data.text: none of the labelled reports has a text")
    logits = pa.concat_tables(scores)
    return pa.concat_tables(parts), {task: matrix(logits[f"{task}_logits"]) for task in system.known()}


@dataclass(frozen=True)
class Outcome:
    """The labelled rows of one task, as arrays [n]: row numbers, marked and predicted codes as text, the model's certainty, and
    whether it is right.

    A temperature is fitted on `scores` (logits) and `targets` (column numbers); for a multi-label task they have one row for
    each yes or no.
    """

    rows: NDArray
    gold: NDArray
    predicted: NDArray
    certainty: NDArray
    right: NDArray
    scores: NDArray
    targets: NDArray
    macro_f1: float | None = None


def gold(values: Sequence[Any], task: Task) -> NDArray:
    """Labels as numbers: column numbers [n], -1 without a label or for an unknown code; for a multi-label task [n, labels] with 1
    or 0, and -1 in rows without a label."""
    index = {label: number for number, label in enumerate(task.labels)}
    if not task.multi_label:
        return np.array([index.get(value, -1) for value in values], dtype=np.int64)
    numbers = np.zeros((len(values), len(task.labels)), dtype=np.int64)
    for row, codes in enumerate(values):
        if codes is None:
            numbers[row] = -1
        else:
            numbers[row, [index[code] for code in codes if code in index]] = 1
    return numbers


def outcome(task: Task, values: Sequence[Any], logits: NDArray, fitted: TaskCalibration) -> Outcome:
    """Compares the model's answers under a calibration with the labels.

    Args:
        values: a code, for a multi-label task a list of codes, or None for a row to leave out. logits: [rows, labels].
    """
    rows = np.flatnonzero([value is not None for value in values])
    values, logits = [values[row] for row in rows], logits[rows]
    target = gold(values, task)
    prob, certainty = calibrated(logits, fitted, task.multi_label)
    labels = np.array(task.labels)
    if not task.multi_label:
        best = prob.argmax(-1)
        return Outcome(rows, np.array(values), labels[best], certainty, best == target, logits, target)
    chosen = prob > MORE_SURE_THAN_NOT
    flat = logits.reshape(-1, 1)
    return Outcome(
        rows,
        np.array([";".join(sorted(codes)) for codes in values]),
        np.array([";".join(labels[row]) for row in chosen]),
        certainty,
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
    previous: TaskCalibration | None = None,
) -> TaskCalibration:
    """Fits a task's calibration on labelled reports that the model has not been trained on.

    Every method fits a temperature and the centres of the reports (`fit_centres`). `temperature` then fits one threshold
    (`fit_threshold`). `isotonic` also fits a curve from certainty to the share right; the curve rises everywhere, so the same
    reports pass the threshold. `per_class` fits a threshold for each code with enough reports, so that the target holds for each
    of these codes, and one threshold for all other codes together. With `previous`, an earlier calibration of the same model, its
    centres stay and its radius grows to include these reports.

    Raises:
        ConfigError: `per_class` for a task with several codes per report.
    """
    if method == PER_CLASS and task.multi_label:
        raise ConfigError(f"method: task {task.name} gives several codes at once; use temperature or isotonic")
    raw = outcome(task, values, logits, TaskCalibration())
    t = calibration.temperature(raw.scores, raw.targets)
    scaled = outcome(task, values, logits, TaskCalibration(t))
    curve = calibration.isotonic(scaled.certainty, scaled.right) if method == ISOTONIC else None
    by_code = None
    if method == PER_CLASS:
        by_code, cut = _by_code(scaled, target, confidence)
    else:
        cut = calibration.fit_threshold(scaled.certainty, scaled.right, target, confidence, _STARTS)
    threshold = cut.threshold
    if curve is not None and threshold <= 1:
        threshold = float(np.interp(threshold, *curve))
    figures = {
        **asdict(cut),
        "fitted_on": fitted_on,
        "n": len(scaled.rows),
        "kept": cut.n,
        "ece_before": calibration.expected_calibration_error(raw.certainty, raw.right),
        "ece_after": calibration.expected_calibration_error(scaled.certainty, scaled.right),
    }
    fitted = TaskCalibration(t, threshold, figures, curve, by_code)
    if previous is None:
        return fitted if task.multi_label else replace(fitted, **fit_centres(scaled.scores))
    farthest = previous.farthest
    if previous.centres is not None:
        farthest = max(farthest, float(np.quantile(nearest(scaled.scores, previous.centres), 1 - OUTLIERS)))
    return replace(fitted, centres=previous.centres, farthest=farthest)


def fit_centres(logits: NDArray) -> dict[str, Any]:
    """`centres` and the radius `farthest` of a calibration, from logits [n, labels] of reports that it was not trained on.

    The radius is a quantile of the reports' distances to centres that were fitted without them, in five folds. With fewer than
    `MIN_FOR_CENTRES` reports the result is empty, since a radius from few reports would exclude many similar ones.
    """
    if len(logits) < MIN_FOR_CENTRES:
        return {}
    fold = np.arange(len(logits)) % 5
    distances = np.concatenate([nearest(logits[fold == k], _centres(logits[fold != k])) for k in range(5)])
    centres = tuple(tuple(round(float(value), 3) for value in centre) for centre in _centres(logits))
    return {"centres": centres, "farthest": round(float(np.quantile(distances, 1 - OUTLIERS)), 3)}


def _centres(logits: NDArray) -> NDArray:
    predicted = logits.argmax(-1)
    return np.stack([logits[predicted == label].mean(0, dtype=np.float64) for label in np.unique(predicted)])


def decisions_of(
    task: Task, values: Sequence[Any], logits: NDArray, fitted: TaskCalibration, min_support: int = CodeOptions.min_support
) -> list[tuple[bool, bool, float]]:
    """For each labelled row in order: whether this task lets it be coded without a person, whether it is right, and its
    probability."""
    labelled = outcome(task, values, logits, fitted)
    options = CodeOptions(min_support=min_support)
    answers = [answer(task, row, fitted, options, shown=1) for row in logits[labelled.rows]]
    return [(a.decision == AUTO, bool(right), a.prob) for a, right in zip(answers, labelled.right, strict=True)]


@dataclass(frozen=True)
class Effect:
    """The effect of a calibration on `n` labelled reports: `kept` are coded without a person, and `right` of those are right.

    `error` is the expected calibration error over all `n`.
    """

    n: int
    kept: int
    right: int
    error: float

    @classmethod
    def of(cls, decisions: Sequence[tuple[bool, bool, float]]) -> "Effect":
        """The effect from the result of `decisions_of`."""
        kept, right, prob = (np.array(column) for column in zip(*decisions, strict=True))
        error = calibration.expected_calibration_error(prob, right)
        return cls(len(decisions), int(kept.sum()), int((kept & right).sum()), error)


@dataclass(frozen=True)
class Recalibration:
    """The new calibration (`fitted`), fitted on all labelled reports, and the effect of the old one on them (`before`).

    `after` is the cross-fitted effect, in `folds` parts: each report is decided by a calibration fitted without its group. It is
    None if there is only one group.
    """

    fitted: TaskCalibration
    before: Effect
    after: Effect | None
    folds: int


def recalibrate(
    task: Task, values: Sequence[Any], logits: NDArray, groups: Sequence[str], before: TaskCalibration, settings: Settings
) -> Recalibration | None:
    """Fits a task's calibration anew on the labelled reports; None if no report has a label.

    Args:
        values: a code, for a multi-label task a list of codes, or None. logits: [rows, labels]. groups: the group of each row,
            such as the patient; reports of a group are held out together.
    """
    rows = np.flatnonzero([value is not None for value in values])
    if not rows.size:
        return None
    values, logits, groups = [values[row] for row in rows], logits[rows], [groups[row] for row in rows]

    def fit_on(at: NDArray) -> TaskCalibration:
        labels = [values[row] for row in at]
        return fit(task, labels, logits[at], settings.target, settings.confidence, settings.method, "own sample", before)

    def decide(fitted: TaskCalibration, at: NDArray) -> list[tuple[bool, bool, float]]:
        return decisions_of(task, [values[row] for row in at], logits[at], fitted, settings.min_support)

    everything, folds = np.arange(rows.size), min(settings.folds, len(set(groups)))
    fitted, old = fit_on(everything), Effect.of(decide(before, everything))
    new = Effect.of(calibration.cross_fitted(fit_on, decide, groups, folds)) if folds > 1 else None
    figures = {**(fitted.figures or {}), "method": settings.method, "before": vars(old), "folds": folds}
    if new is not None:
        figures["cross_fitted"] = vars(new)
    return Recalibration(replace(fitted, figures=figures), old, new, folds)


def least_rows(target: float, confidence: float, method: str = TEMPERATURE) -> int:
    """The number of labelled reports without an error from which a threshold can be fitted; for `per_class`, of one code."""
    return calibration.smallest_provable(target, _level(confidence, method))


def highest_target(rows: int, confidence: float, method: str = TEMPERATURE) -> float:
    """The highest target for which `least_rows` is at most `rows`; `rows` must be above 0."""
    return _level(confidence, method) ** (1 / rows)


def _level(confidence: float, method: str) -> float:
    """The error level of the first test, which determines how few reports can pass it."""
    return (1 - confidence) / (1 if method == PER_CLASS else _STARTS)


def _by_code(scaled: Outcome, target: float, confidence: float) -> tuple[dict[str, float], Threshold]:
    """A threshold for each code that is predicted often enough to prove one, and one for all other codes together.

    The number of starts (see `fit_threshold`) depends only on how many reports a code has. The second result has the threshold of
    the other codes, with figures of all thresholds together.
    """
    least, cuts = calibration.smallest_provable(target, 1 - confidence), {}
    rest = np.ones(scaled.predicted.size, dtype=bool)

    def cut(rows: NDArray, starts: int) -> float:
        return calibration.fit_threshold(scaled.certainty[rows], scaled.right[rows], target, confidence, starts).threshold

    for code in np.unique(scaled.predicted):
        rows = scaled.predicted == code
        if rows.sum() >= least:
            cuts[str(code)] = cut(rows, _STARTS if rows.sum() >= 2 * least_rows(target, confidence) else 1)
            rest &= ~rows
    other = cut(rest, _STARTS) if rest.any() else calibration.NOTHING
    kept = scaled.certainty >= [cuts.get(str(code), other) for code in scaled.predicted]
    n, hits = int(kept.sum()), int((kept & scaled.right).sum())
    bound = calibration.lower_bound(hits, n, confidence) if n else None
    return cuts, Threshold(other, n, n / kept.size, hits / n if n else None, bound, target, confidence)
