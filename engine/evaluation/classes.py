"""Figures of coded classes against gold: accuracy, F1, and the share that could be kept without review.

Arrays are [rows]: `gold` and `predicted` hold codes (strings), `prob` the probability of the predicted code in 0..1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score

from engine.errors import ContractError


def macro_f1(gold: ArrayLike, predicted: ArrayLike) -> float:
    """Mean F1 over the classes in gold; a class that is never predicted right counts as 0."""
    gold, predicted = _paired(gold, predicted)
    return float(f1_score(gold, predicted, labels=np.unique(gold), average="macro", zero_division=0))


def keepable_share(prob: ArrayLike, right: ArrayLike, target: float = 0.98) -> float:
    """The largest share of rows above one cut that is at least `target` right: what could be kept if the cut were known.

    Rows of equal probability stay together. The cut is chosen on the rows that it is measured on, so the share is an upper bound
    for what a fitted threshold keeps. 0 if no cut reaches the target.
    """
    prob, right = scored_rows(prob, right)
    counts, hits = by_confidence(prob, right)
    reached = hits >= target * counts - 1e-9
    return float(counts[reached].max() / prob.size) if reached.any() else 0.0


def at_threshold(prob: ArrayLike, right: ArrayLike, threshold: float) -> dict[str, Any]:
    """The rows with `prob >= threshold`: their number `n`, `share` of all, and `accuracy` (None if there are none)."""
    prob, right = scored_rows(prob, right)
    kept = prob >= threshold
    n = int(kept.sum())
    accuracy = float(right[kept].mean()) if n else None
    return {"threshold": float(threshold), "n": n, "share": n / prob.size, "accuracy": accuracy}


def risk_coverage(prob: ArrayLike, right: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """The risk-coverage curve, from the most confident rows to all.

    Returns:
        Cuts (distinct probabilities, falling), coverage (share of rows at or above the cut), risk (share of these that is wrong).
    """
    prob, right = scored_rows(prob, right)
    counts, hits = by_confidence(prob, right)
    return np.unique(prob)[::-1], counts / prob.size, 1.0 - hits / counts


def summary(gold: ArrayLike, predicted: ArrayLike, prob: ArrayLike, target: float = 0.98) -> dict[str, float | int]:
    """The main figures of one task, under the names that model cards and reports use."""
    gold, predicted = _paired(gold, predicted)
    return {
        "n": int(gold.size),
        "classes": len(set(gold)),
        "accuracy": float(np.mean(gold == predicted)),
        "macro_f1": macro_f1(gold, predicted),
        "keepable_share": keepable_share(prob, gold == predicted, target),
    }


def bootstrap_interval(
    figure: Callable[[NDArray], float], groups: Sequence[str], rounds: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Both ends of a figure's percentile bootstrap interval, resampled by group, as reports of one patient are not independent.

    Args:
        figure: function from row numbers [rows drawn], repeats included, to the figure.
        groups: one key per row, such as the patient; whole groups are drawn with replacement.
    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13; clusters as the unit: Davison and Hinkley,
        Bootstrap Methods and their Application (1997), §3.8.
    """
    _, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if inverse.size == 0:
        raise ContractError("bootstrap of no rows")
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(len(members), size=len(members)) for _ in range(rounds)]
    values = [figure(np.concatenate([members[i] for i in draw])) for draw in drawn]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def by_confidence(prob: NDArray, right: NDArray) -> tuple[NDArray, NDArray]:
    """Counts of rows and of right rows at or above each distinct probability, from the highest down."""
    order = np.argsort(-prob, kind="stable")
    falling = prob[order]
    last = np.append(falling[1:] != falling[:-1], True)
    counts = np.arange(1, prob.size + 1)[last]
    return counts, np.cumsum(right[order])[last]


def _paired(gold: ArrayLike, predicted: ArrayLike) -> tuple[NDArray, NDArray]:
    gold, predicted = np.asarray(gold, dtype=str), np.asarray(predicted, dtype=str)
    if gold.ndim != 1 or gold.shape != predicted.shape or gold.size == 0:
        raise ContractError(f"gold and predictions differ in shape or are empty: {gold.shape}, {predicted.shape}")
    return gold, predicted


def scored_rows(prob: ArrayLike, right: ArrayLike) -> tuple[NDArray, NDArray]:
    prob, right = np.asarray(prob, dtype=np.float64), np.asarray(right, dtype=bool)
    if prob.ndim != 1 or prob.shape != right.shape or prob.size == 0:
        raise ContractError(f"probabilities and outcomes differ in shape or are empty: {prob.shape}, {right.shape}")
    if not np.isfinite(prob).all():
        raise ContractError("a probability is not finite")
    return prob, right
