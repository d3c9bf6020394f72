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
    """The mean of `one` less `other`, run by run, with its interval and the p of a paired t-test; see `against_zero`."""
    if len(one) != len(other):
        raise ContractError(f"{len(one)} runs paired with {len(other)}")
    return against_zero([a - b for a, b in zip(one, other, strict=True)])


def against_zero(values: Sequence[float]) -> tuple[Estimate, float | None]:
    """The mean of runs with its interval, and the two-sided p of a t-test that it is 0.

    One run, or runs that all say the same, have no spread to test against: no p, which is neither 0 nor 1.
    """
    estimate = over_seeds(values)
    if len(values) == 1 or np.ptp(values) == 0:
        return estimate, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return estimate, float(2 * t.sf(abs(estimate.value) / error, len(values) - 1))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being several, in their order; one that is missing stays so and counts for nothing.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure (Scandinavian Journal of Statistics 6, 1979).
    """
    known = sorted((p, at) for at, p in enumerate(values) if p is not None)
    found: list[float | None] = [None] * len(values)
    most = 0.0
    for rank, (p, at) in enumerate(known):
        most = max(most, min(1.0, (len(known) - rank) * p))
        found[at] = most
    return found
