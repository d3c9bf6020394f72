"""Fits the calibration of findings to labelled studies that the model has not learned from."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from engine.evaluation.calibration import lower_bound, smallest_provable
from engine.models.findings.decide import FindingCalibration

# The least rise of the fitted sigmoid over a standard deviation of the logits, so that it never turns the model's order around.
_LEAST_SLOPE = 1e-2


@dataclass(frozen=True)
class Promise:
    """What a finding's bounds must keep, each with this confidence: of the studies with the finding at least `sensitivity` are
    not called clearly negative, of those without it at least `specificity` are not called clearly positive."""

    sensitivity: float = 0.95
    specificity: float = 0.9
    confidence: float = 0.95

    @property
    def least(self) -> tuple[int, int]:
        """Positive and negative studies without which no bounds can be fitted."""
        level = 1 - self.confidence
        return smallest_provable(self.sensitivity, level), smallest_provable(self.specificity, level)


def fit_findings(
    names: Sequence[str],
    logits: NDArray,
    states: NDArray,
    promise: Promise,
    previous: dict[str, FindingCalibration] | None = None,
) -> dict[str, FindingCalibration]:
    """The calibration of each finding, see `fit_finding`.

    Args:
        logits, states: [studies, findings]; a state is 1, 0, or anything else for a study to leave out.
    """
    previous = previous or {}
    columns = zip(names, np.asarray(logits).T, np.asarray(states).T, strict=True)
    return {name: fit_finding(*pair, promise, previous.get(name, FindingCalibration())) for name, *pair in columns}


def fit_finding(logits: NDArray, states: NDArray, promise: Promise, previous: FindingCalibration) -> FindingCalibration:
    """Platt scaling, bounds and threshold of a finding, from logits and states [studies].

    The threshold is the observed probability with the best Matthews correlation, of those between the bounds if there are
    bounds. Where one cut keeps both promises, it is all three. With yes or no missing, the `previous` scaling and
    threshold stay, if there are any.
    """
    known = np.isin(states, (0, 1))
    logits, positive = np.asarray(logits, np.float64)[known], np.asarray(states)[known] == 1
    counts = {"positives": int(positive.sum()), "negatives": int((~positive).sum())}
    fitted = replace(previous, lower=None, upper=None, **counts)
    if not all(counts.values()):
        return fitted
    temperature, bias = platt(logits, positive)
    fitted = replace(fitted, temperature=temperature, bias=bias)
    prob = fitted.probabilities(logits)
    lower, upper = bounds(prob, positive, promise)
    if lower is None or upper is None:
        return replace(fitted, threshold=best_cut(prob, positive))
    threshold = best_cut(prob, positive, min(lower, upper), max(lower, upper))
    return fitted.at(threshold) if lower >= upper else replace(fitted, threshold=threshold, lower=lower, upper=upper)


def platt(logits: NDArray, positive: NDArray) -> tuple[float, float]:
    """Temperature and bias for which sigmoid(logit / temperature + bias) is most likely; the temperature is above 0.

    Source:
        Platt, Probabilistic Outputs for Support Vector Machines (1999), §2.2, with its targets (n + 1) / (n + 2) and
        1 / (n + 2), which stay finite where the logits part the classes.
    """
    yes, no = positive.sum(), (~positive).sum()
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))
    middle, scale = logits.mean(), logits.std() or 1.0
    x = (logits - middle) / scale

    def loss(weights: NDArray) -> tuple[float, NDArray]:
        z = weights[0] * x + weights[1]
        error = expit(z) - target
        return float(np.mean(np.logaddexp(0, z) - target * z)), np.array([np.mean(error * x), np.mean(error)])

    slope, shift = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(_LEAST_SLOPE, None), (None, None)]
    ).x
    return float(scale / slope), float(shift - slope * middle / scale)


def bounds(prob: NDArray[np.float32], positive: NDArray, promise: Promise) -> tuple[float | None, float | None]:
    """The highest cut that enough positives reach, and the lowest that enough negatives stay below; None for one that no number
    of them could show.

    How many are enough follows from their number alone, so no cut is chosen by its outcome, and each bound holds for studies
    like these with the confidence of a single test.

    Source:
        Wilks, Annals of Mathematical Statistics 12 (1941): order statistics as tolerance limits; the bound is that of Clopper
        and Pearson (`lower_bound`).
    """
    falling, rising = -np.sort(-prob[positive]), np.sort(prob[~positive])
    reach = _enough(len(falling), promise.sensitivity, promise.confidence)
    below = _enough(len(rising), promise.specificity, promise.confidence)
    lower = None if reach is None else float(falling[reach - 1])
    upper = None if below is None else float(np.nextafter(rising[below - 1], np.float32(2)))
    return lower, upper


def best_cut(prob: NDArray[np.float32], positive: NDArray, low: float = 0.0, high: float = 1.0) -> float:
    """The observed probability from `low` to `high` from which on to say yes has the best Matthews correlation, the lowest of
    equals."""
    cuts = np.unique(prob)
    cuts = cuts[(cuts >= np.float32(low)) & (cuts <= np.float32(high))]
    yes, no = np.sort(prob[positive]), np.sort(prob[~positive])
    hits = (len(yes) - np.searchsorted(yes, cuts)).astype(float)
    false = (len(no) - np.searchsorted(no, cuts)).astype(float)
    missed, right = len(yes) - hits, len(no) - false
    product = (hits + false) * (hits + missed) * (right + false) * (right + missed)
    mcc = np.divide(hits * right - false * missed, np.sqrt(product), out=np.zeros_like(hits), where=product > 0)
    return float(cuts[mcc.argmax()])


def _enough(n: int, share: float, confidence: float) -> int | None:
    """The smallest number of n whose share has a lower bound of at least `share`; None if not even all of them have."""
    least = bisect_left(range(n + 1), share, key=lambda hits: lower_bound(hits, n, confidence)) if n else 1
    return least if least <= n else None
