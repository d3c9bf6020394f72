"""Whether one way is better than another, from a few runs of each that differ by their seed."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from engine.errors import ContractError
from engine.evaluation.resample import Estimate


def over_seeds(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of runs with Student's interval; no interval for a single run.

    Source:
        Student, The Probable Error of a Mean (Biometrika 6, 1908).
    """
    if not values:
        raise ContractError("the mean of no runs")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean)
    half = float(t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def paired(one: Sequence[float], other: Sequence[float]) -> tuple[Estimate, float | None]:
    """The mean of `one` less `other`, run by run, with its interval and the two-sided p of a paired t-test; None for one run."""
    if len(one) != len(other):
        raise ContractError(f"{len(one)} runs paired with {len(other)}")
    less = [a - b for a, b in zip(one, other, strict=True)]
    estimate = over_seeds(less)
    if len(less) == 1:
        return estimate, None
    error = float(np.std(less, ddof=1)) / math.sqrt(len(less))
    if error == 0:
        return estimate, 1.0 if estimate.value == 0 else 0.0
    return estimate, float(2 * t.sf(abs(estimate.value) / error, len(less) - 1))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for being several, in their order.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure (Scandinavian Journal of Statistics 6, 1979).
    """
    found, most = [0.0] * len(values), 0.0
    for rank, at in enumerate(np.argsort(values, kind="stable")):
        most = max(most, min(1.0, (len(values) - rank) * values[at]))
        found[at] = most
    return found
