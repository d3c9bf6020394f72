"""From calibrated probabilities to decisions, and why a person must look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task
from engine.models.site_classifier.reasons import RULES, told_by_rules
from engine.records import AUTO, REASONS, REVIEW

CLOSE = 0.2


@dataclass(frozen=True)
class DecisionConfig:
    """Which tasks must be sure for a row to be `auto`, and what else holds it back.

    `thresholds` replace the checkpoint's fitted ones; `min_support` is the number of real training reports a code must have had;
    `rules` are those of `engine.models.site_classifier.reasons` that count.
    """

    tasks: tuple[str, ...] = ("site",)
    min_support: int = 10
    thresholds: Mapping[str, float] = field(default_factory=dict)
    rules: tuple[str, ...] = RULES


@dataclass(frozen=True)
class Answer:
    """One task's answer for one report; it is `auto` where there is no reason against it."""

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
    """Probabilities [n, labels] with the highest of each row taken along the isotonic curve, if there is one.

    The others shrink in proportion, by the stronger of two factors: as the highest one did, so that their order stays, or as the
    rest of the mass did, so that the sum stays at most 1.
    """
    if calibration.isotonic is None:
        return prob
    best = prob.argmax(-1, keepdims=True)
    old = np.take_along_axis(prob, best, -1)
    new = np.interp(old, *calibration.isotonic)
    rest = np.divide(1 - new, 1 - old, out=np.zeros_like(old), where=old < 1)
    found = prob * np.minimum(new / old, rest)
    np.put_along_axis(found, best, new, -1)
    return found


def answer(task: Task, logits: np.ndarray, calibration: TaskCalibration, config: DecisionConfig, shown: int = 3) -> Answer:
    """One report's answer from its logits [labels].

    A multi-label answer joins the codes above one half with `;`, and is as sure as its least sure yes or no.
    """
    prob = probabilities(logits[None], calibration.temperature, task.multi_label)[0]
    if not task.multi_label:
        prob = adjusted(prob[None], calibration)[0]
    order = np.argsort(-prob, kind="stable")
    top = [{"code": task.labels[i], "prob": float(prob[i])} for i in order[:shown]]
    reasons = []
    if task.multi_label:
        chosen = [int(i) for i in np.flatnonzero(prob > 0.5)]
        sure = float(np.maximum(prob, 1 - prob).min())
        if calibration.isotonic is not None:
            sure = float(np.interp(sure, *calibration.isotonic))
        code = ";".join(task.labels[i] for i in chosen)
        support = min((task.support[i] for i in chosen), default=config.min_support)
    else:
        best = int(order[0])
        sure, code, support = float(prob[best]), task.labels[best], task.support[best]
        if calibration.centres is not None and nearest(logits[None], calibration.centres)[0] > calibration.farthest:
            reasons.append("out_of_distribution")
    needed = threshold(task, code, calibration, config)
    if sure < needed:
        reasons.append("low_confidence" if needed <= 1 else "no_threshold")
        if not task.multi_label and len(order) > 1 and prob[order[0]] - prob[order[1]] < CLOSE:
            reasons.append("low_margin")
    if support < config.min_support:
        reasons.append("rare_class_below_support")
    return Answer(code, sure, REVIEW if reasons else AUTO, top, tuple(reason for reason in REASONS if reason in reasons))


def nearest(logits: np.ndarray, centres: Sequence[Sequence[float]]) -> np.ndarray:
    """Euclidean distance [n] from logits [n, labels] to the nearest centre [labels].

    Texts of another kind than a model has learned from lie apart from all of its codes in this space where their energy, the
    log-sum-exp of the logits, is that of sure answers (measured; docs/results/guard.md). After Lee et al., NeurIPS 2018, with
    one and the same variance in every direction, which fewer reports can tell.
    """
    apart = logits.astype(np.float64)[:, None] - np.asarray(centres, dtype=np.float64)[None]
    return np.sqrt((apart**2).sum(-1)).min(-1)


def threshold(task: Task, code: str, calibration: TaskCalibration, config: DecisionConfig) -> float:
    """The probability from which a code of a task is sure; above 1 where none was found to be enough."""
    fitted = (calibration.class_thresholds or {}).get(code, calibration.threshold)
    return config.thresholds.get(task.name, fitted)


def auto_codes(task: Task, calibration: TaskCalibration, config: DecisionConfig) -> list[str]:
    """The codes of a task that can be `auto`: with support enough, and a threshold that a probability can reach."""
    return [
        code
        for code, support in zip(task.labels, task.support, strict=True)
        if support >= config.min_support and threshold(task, code, calibration, config) <= 1
    ]


def row_decision(
    answers: Mapping[str, Answer],
    config: DecisionConfig,
    *,
    truncated_chars: int,
    pairs: frozenset[tuple[str, str]],
    signs: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """The row's decision and its reasons, in the order of `engine.records.REASONS`.

    `pairs` are the codes of the first two tasks that stood together in training; an answer outside them, where both tasks are
    more sure than not, is an `unseen_code_pair`. `signs` are those of the text's wording.
    """
    found = {reason for name in config.tasks for reason in answers[name].reasons}
    if truncated_chars > 0:
        found.add("text_truncated")
    if pairs and len(answers) > 1 and _unseen(list(answers.values())[:2], pairs):
        found.add("unseen_code_pair")
    found |= told_by_rules(signs, {name: a.code for name, a in answers.items() if a.prob > 0.5}, config.rules)
    return (REVIEW if found else AUTO), [reason for reason in REASONS if reason in found]


def _unseen(two: Sequence[Answer], pairs: frozenset[tuple[str, str]]) -> bool:
    return min(a.prob for a in two) > 0.5 and (two[0].code, two[1].code) not in pairs
