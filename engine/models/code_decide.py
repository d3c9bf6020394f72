"""From calibrated probabilities to decisions, and the reasons for review."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.models.code_task import Task, TaskCalibration
from engine.models.options import CodeOptions
from engine.records import AUTO, REASONS, REVIEW

CLOSE = 0.2
# A multi-label answer has the codes above it; rules about several codes together consider codes above it.
MORE_SURE_THAN_NOT = 0.5


@dataclass(frozen=True)
class Answer:
    """One task's answer for one report, by column name; it is `auto` unless there is a reason for review."""

    code: str
    prob: float
    decision: str
    top: list[dict[str, object]]
    reasons: tuple[str, ...]


def probabilities(logits: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """Calibrated probabilities [n, labels] in float64."""
    scaled = logits.astype(np.float64) / temperature
    if multi_label:
        return 1.0 / (1.0 + np.exp(-scaled))
    scaled -= scaled.max(-1, keepdims=True)
    mass = np.exp(scaled)
    return mass / mass.sum(-1, keepdims=True)


def adjusted(prob: np.ndarray, calibration: TaskCalibration) -> np.ndarray:
    """Probabilities [n, labels], the highest of each row mapped by the isotonic curve, if there is one.

    The others shrink in proportion by the smaller of two factors: that of the highest one, so that the order stays, and that of
    the remaining mass, so that the sum stays at most 1.
    """
    if calibration.isotonic is None:
        return prob
    best = prob.argmax(-1, keepdims=True)
    old = np.take_along_axis(prob, best, -1)
    new = np.interp(old, *calibration.isotonic)
    rest = np.divide(1 - new, 1 - old, out=np.zeros_like(old), where=old < 1)
    mapped = prob * np.minimum(new / old, rest)
    np.put_along_axis(mapped, best, new, -1)
    return mapped


def calibrated(logits: np.ndarray, calibration: TaskCalibration, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities [n, labels], and the certainty [n] of each answer: its highest probability, or that of its least
    certain yes or no."""
    prob = probabilities(logits, calibration.temperature, multi_label)
    if not multi_label:
        prob = adjusted(prob, calibration)
        return prob, prob.max(-1)
    certainty = np.maximum(prob, 1 - prob).min(-1)
    return prob, certainty if calibration.isotonic is None else np.interp(certainty, *calibration.isotonic)


def answer(task: Task, logits: np.ndarray, calibration: TaskCalibration, options: CodeOptions, shown: int = 3) -> Answer:
    """One report's answer from its logits [labels].

    A multi-label answer joins the codes above one half with `;`, and is as certain as its least certain yes or no.
    """
    (prob,), (certainty,) = calibrated(logits[None], calibration, task.multi_label)
    order = np.argsort(-prob, kind="stable")
    top = [{"code": task.labels[i], "prob": float(prob[i])} for i in order[:shown]]
    reasons = []
    if task.multi_label:
        chosen = [int(i) for i in np.flatnonzero(prob > MORE_SURE_THAN_NOT)]
        code = ";".join(task.labels[i] for i in chosen)
        support = min((task.support[i] for i in chosen), default=options.min_support)
    else:
        best = int(order[0])
        code, support = task.labels[best], task.support[best]
        if calibration.centres is not None and nearest(logits[None], calibration.centres)[0] > calibration.farthest:
            reasons.append("out_of_distribution")
    needed = threshold(task, code, calibration, options)
    if certainty < needed:
        reasons.append("low_confidence" if needed <= 1 else "no_threshold")
        if not task.multi_label and len(order) > 1 and prob[order[0]] - prob[order[1]] < CLOSE:
            reasons.append("low_margin")
    if support < options.min_support:
        reasons.append("rare_class_below_support")
    return Answer(
        code, float(certainty), REVIEW if reasons else AUTO, top, tuple(reason for reason in REASONS if reason in reasons)
    )


def nearest(logits: np.ndarray, centres: Sequence[Sequence[float]]) -> np.ndarray:
    """Euclidean distance [n] from logits [n, labels] to the nearest centre [labels].

    Texts unlike those that the model has learned from are far from all of its codes in this space, even if their energy, the
    log-sum-exp of the logits, is that of certain answers (measured; docs/results/guard.md). After Lee et al., NeurIPS 2018, with
    equal variance in every direction, which fewer reports can determine.
    """
    apart = logits.astype(np.float64)[:, None] - np.asarray(centres, dtype=np.float64)[None]
    return np.sqrt((apart**2).sum(-1)).min(-1)


def threshold(task: Task, code: str, calibration: TaskCalibration, options: CodeOptions) -> float:
    """The probability from which a code is certain enough; above 1 if no probability is."""
    fitted = (calibration.class_thresholds or {}).get(code, calibration.threshold)
    return options.thresholds.get(task.name, fitted)


def auto_codes(task: Task, calibration: TaskCalibration, options: CodeOptions) -> list[str]:
    """The codes of a task that can be `auto`: with enough support and a threshold that a probability can reach."""
    return [
        code
        for code, support in zip(task.labels, task.support, strict=True)
        if support >= options.min_support and threshold(task, code, calibration, options) <= 1
    ]


def margins(task: Task, logits: np.ndarray, calibration: TaskCalibration, options: CodeOptions) -> Iterator[float]:
    """Distances from every boundary that the decision about a report's logits [labels] depends on: differences of probabilities,
    and the relative distance from the radius beyond which a report is unlike all others."""
    (prob,), _ = calibrated(logits[None], calibration, task.multi_label)
    if task.multi_label:
        yield float(np.abs(prob - MORE_SURE_THAN_NOT).min())
        return
    second, best = np.sort([0.0, *prob])[-2:]
    yield float(best - second)
    yield abs(float(best) - MORE_SURE_THAN_NOT)
    yield abs(float(best) - threshold(task, task.labels[int(prob.argmax())], calibration, options))
    if calibration.centres is not None:
        yield abs(float(nearest(logits[None], calibration.centres)[0]) / calibration.farthest - 1)
