"""From logits of labelled reports to a task's calibration, and what that calibration would decide about them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.evaluation.calibration import Promise, Threshold
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import CALIBRATIONS, Task
from engine.models.site_classifier.decide import DecisionConfig, adjusted, answer, nearest, probabilities
from engine.records import AUTO

TEMPERATURE, ISOTONIC, PER_CLASS = CALIBRATIONS
# The share of known reports that may lie farther from the centres than any other, and the fewest that can tell where it begins.
OUTLIERS, LEAST = 0.005, 400


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
    chosen = prob > 0.5
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
        cut = calibration.fit_threshold(found.sure, found.right, target, confidence)
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
    task: Task, values: Sequence[Any], logits: NDArray, fitted: TaskCalibration, min_support: int = 10
) -> list[tuple[bool, bool, float]]:
    """For each labelled row in order: coded without a person as far as this task goes, right, and the stated probability."""
    found = outcome(task, values, logits, fitted)
    config = DecisionConfig(min_support=min_support)
    answers = [answer(task, each, fitted, config, shown=1) for each in logits[found.rows]]
    return [(a.decision == AUTO, bool(right), a.prob) for a, right in zip(answers, found.right, strict=True)]


def _by_code(found: Outcome, target: float, confidence: float) -> tuple[dict[str, float], Threshold]:
    """A cut for each code that is given often enough to prove one, and one for all the others together.

    How many starts a code's sequence has (see `fit_threshold`) goes by the number of its reports alone. The figures beside the
    second cut are those of all cuts together.
    """
    least, enough = Promise(target, confidence, 1).least, 2 * Promise(target, confidence).least
    cuts = {}
    rest = np.ones(found.predicted.size, dtype=bool)
    for code in np.unique(found.predicted):
        mine = found.predicted == code
        if mine.sum() >= least:
            starts = Promise.starts if mine.sum() >= enough else 1
            cuts[str(code)] = calibration.fit_threshold(found.sure[mine], found.right[mine], target, confidence, starts).threshold
            rest &= ~mine
    other = calibration.NOTHING
    if rest.any():
        other = calibration.fit_threshold(found.sure[rest], found.right[rest], target, confidence).threshold
    kept = found.sure >= [cuts.get(str(code), other) for code in found.predicted]
    n, hits = int(kept.sum()), int((kept & found.right).sum())
    bound = calibration.lower_bound(hits, n, confidence) if n else None
    return cuts, Threshold(other, n, n / kept.size, hits / n if n else None, bound, target, confidence)
