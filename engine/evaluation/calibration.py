"""Calibration: from scores to honest probabilities, and to a threshold that keeps its promise.

Probabilities are in 0..1. `targets` are column numbers of the right class; -1 marks a row whose class the model does not know.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression

from engine.errors import ContractError
from engine.evaluation.classes import by_confidence, scored_rows

NOTHING = 1.01
"""A threshold above every probability: nothing is kept."""

_TEMPERATURES = (0.05, 20.0)
_SLOPE = 1e-3


def temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T in 0.05..20 that minimises the mean negative log likelihood of softmax(logits / T).

    1.0 if no best T exists: no row of a known class, one class only, or every row right (the likelihood then only grows as T
    falls, and a fitted T would claim certainty from a sample that is too easy).

    Args:
        logits: [rows, classes]; computed in float64.
        targets: [rows]; rows of -1 are left out.
    Source:
        Guo et al., On Calibration of Modern Neural Networks (ICML 2017), §4.2.
    """
    logits, targets = _logits(logits, targets)
    known = targets >= 0
    logits, targets = logits[known], targets[known]
    rows = np.arange(targets.size)
    others = logits.copy()
    others[rows, targets] = -np.inf
    if targets.size == 0 or logits.shape[1] == 1 or bool((others.max(axis=1) < logits[rows, targets]).all()):
        return 1.0

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, targets]))

    low, high = map(math.log, _TEMPERATURES)
    return float(math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def isotonic(prob: ArrayLike, right: ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots (x, y) of the rising curve from stated probability to share right, for `numpy.interp`; x runs from 0 to 1.

    A flat piece would make unequal probabilities equal, and a threshold on it would keep rows that were never tested. So a
    thousandth of the probability itself is mixed in: the curve rises everywhere, and every cut before it is one after it. The
    ends claim no more than n rows can show (rule of succession: 1 / (n + 2) and 1 minus it).

    Source:
        Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates (KDD 2002), §3.
    """
    prob, right = scored_rows(prob, right)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(prob, right)
    x, y = np.asarray(fitted.X_thresholds_, float), np.asarray(fitted.y_thresholds_, float)
    x, first = np.unique(np.concatenate([[0.0], x, [1.0]]), return_index=True)
    y = np.concatenate([y[:1], y, y[-1:]])[first]
    least = 1 / (prob.size + 2)
    y = (1 - _SLOPE) * np.clip(y, least, 1 - least) + _SLOPE * x
    return tuple(x.tolist()), tuple(y.tolist())


def folds(groups: Sequence[str], count: int = 5, seed: int = 0) -> NDArray:
    """A fold 0..count-1 for each row: groups (patients) stay whole, and folds have equally many groups, plus or minus one.

    With fewer groups than folds, each group is a fold.

    Raises:
        ContractError: fewer than two groups or folds.
    """
    keys, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if min(count, keys.size) < 2:
        raise ContractError(f"{keys.size} groups cannot make {count} folds")
    return (np.random.default_rng(seed).permutation(keys.size) % count)[group]


def cross_fitted(
    fit: Callable[[NDArray], Any], apply: Callable[[Any, NDArray], Sequence[Any]], groups: Sequence[str], count: int = 5
) -> list[Any]:
    """A value for each row, in order, from a fit that has not seen its group.

    Args:
        fit: function from row numbers to whatever is fitted on them.
        apply: function from that and other row numbers to one value per row.
    """
    fold = folds(groups, count)
    values: list[Any] = [None] * fold.size
    for number in np.unique(fold):
        held_out = np.flatnonzero(fold == number)
        for row, value in zip(held_out, apply(fit(np.flatnonzero(fold != number)), held_out), strict=True):
            values[row] = value
    return values


def expected_calibration_error(prob: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """Mean distance between stated probability and share right over bins of equally many rows, weighted by their rows.

    Source:
        Guo et al. (2017), eq. 5; equal mass instead of equal width: Nguyen and O'Connor (EMNLP 2015), §3.
    """
    prob, right = scored_rows(prob, right)
    order = np.argsort(prob, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return float(sum(abs(float(right[p].mean()) - float(prob[p].mean())) * p.size for p in parts) / prob.size)


def brier(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean over rows of the squared distance to the one-hot target, summed over classes: 0 to 2.

    A row of an unknown class (-1) has an all-zero target.

    Source:
        Brier, Monthly Weather Review 78 (1950), eq. 2.
    """
    probabilities, targets = _logits(probabilities, targets)
    distance = probabilities.copy()
    known = np.flatnonzero(targets >= 0)
    distance[known, targets[known]] -= 1.0
    return float(np.mean(np.sum(distance**2, axis=1)))


def lower_bound(hits: int, n: int, confidence: float = 0.95) -> float:
    """One-sided lower confidence bound of a share: `hits` of `n`, 0 where there is no hit.

    Source:
        Clopper and Pearson, Biometrika 26 (1934): the (1 - confidence) quantile of Beta(hits, n - hits + 1).
    """
    if not 0 <= hits <= n or n == 0:
        raise ContractError(f"{hits} hits of {n}")
    return float(beta.ppf(1 - confidence, hits, n - hits + 1)) if hits else 0.0


def smallest_provable(target: float, level: float) -> int:
    """The smallest n for which n right of n have a lower bound of at least `target` at error `level`: target**n <= level."""
    return max(1, math.ceil(math.log(level) / math.log(target) - 1e-9))


@dataclass(frozen=True)
class Threshold:
    """A fitted cut: keep rows with `prob >= threshold`.

    It keeps `n` rows of the fitting set, `share` of all; `accuracy` of them are right, with the lower bound `bound` at
    `confidence`. If nothing is kept, `threshold` is `NOTHING`, and `accuracy` and `bound` are None.
    """

    threshold: float
    n: int
    share: float
    accuracy: float | None
    bound: float | None
    target: float
    confidence: float


def fit_threshold(
    prob: ArrayLike,
    right: ArrayLike,
    target: float = 0.98,
    confidence: float = 0.95,
    starts: int = 3,
    step: float = 0.01,
) -> Threshold:
    """The lowest cut above which at least `target` of the rows are right, with `confidence`.

    Trying every cut and taking the best one that passes would break the confidence, since one of many tries passes by luck. So
    the probabilities alone fix the cuts and their order before any outcome is used: from the smallest number of rows at which
    the test can succeed (149 without an error, for 98 % at 95 % and one start), and down in steps of `step` of all rows. The
    Clopper-Pearson bound tests each cut against "accuracy above it is below the target". The first failure ends the sequence, so
    the whole search errs no more often than one test (fixed-sequence testing).

    One early error ends a sequence that might have passed later on. So the error level is shared between `starts` sequences that
    begin at evenly spaced numbers of rows; a sequence that reaches the next start unbroken hands its level on. In simulations
    with one label in 200 wrong, a single start kept nothing half of the time, whatever the number of rows; three starts lost
    almost nothing from 1,500 rows on; with clean labels both kept the same. The price: with three starts at least 203 rows
    without an error are needed, not 149.

    Args:
        prob, right: held-out rows of one task; a row of a class that the model does not know is simply wrong.
    Returns:
        The lowest cut that passed; `NOTHING` if none did, or if there are too few rows for any to pass.
    Source:
        Bauer, Statistics in Medicine 10 (1991): tests in a fixed order at full level; Wiens, Pharmaceutical Statistics 2
        (2003): sharing the level between starts; Angelopoulos et al., Learn then Test (2021), §2.3: for choosing thresholds.
    """
    if not (0 < target < 1 and 0 < confidence < 1 and 0 < step <= 1 and starts >= 1):
        raise ContractError(f"fit_threshold: target {target}, confidence {confidence}, step {step}, starts {starts}")
    prob, right = scored_rows(prob, right)
    counts, hits = by_confidence(prob, right)
    share = (1 - confidence) / starts
    first = smallest_provable(target, share)
    granted = {first + round(i * (prob.size - first) / starts) for i in range(starts)}
    stride = max(1, round(step * prob.size))
    wanted = sorted({*range(first, prob.size + 1, stride), prob.size, *granted}) if prob.size >= first else []

    level, best, tested = 0.0, None, -1
    for n in wanted:
        if n in granted:
            level += share
        at = int(np.searchsorted(counts, n))
        if at == tested or level == 0.0:
            continue
        tested = at
        if lower_bound(int(hits[at]), int(counts[at]), 1 - level) >= target:
            best = at
        else:
            level = 0.0
    if best is None:
        return Threshold(NOTHING, 0, 0.0, None, None, target, confidence)
    n, good = int(counts[best]), int(hits[best])
    cut = float(np.unique(prob)[::-1][best])
    return Threshold(cut, n, n / prob.size, good / n, lower_bound(good, n, confidence), target, confidence)


def _logits(logits: ArrayLike, targets: ArrayLike) -> tuple[NDArray, NDArray]:
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or logits.size == 0:
        raise ContractError(f"scores {logits.shape} and targets {targets.shape} do not fit together")
    if not np.isfinite(logits).all() or targets.max() >= logits.shape[1] or targets.min() < -1:
        raise ContractError("a score is not finite, or a target is not a column")
    return logits, targets
