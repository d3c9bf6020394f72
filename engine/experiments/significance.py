"""Whether one way is better than another, from a few runs of each that differ by their seed, or from the records both read."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from engine.errors import ContractError
from engine.evaluation.resample import Drawn, Estimate, Totals, divide
from engine.evaluation.spans import WAYS, Mentions, counts_of


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


def difference(
    gold: Mentions, one: Mentions, other: Mentions, way: str = "", rounds: int = 1000, seed: int = 0
) -> tuple[Estimate, float | None]:
    """F1 of `one` less that of `other`; see `mean_difference`."""
    return mean_difference(gold, [(one, other)], way, rounds, seed)


def mean_difference(
    gold: Mentions, pairs: Sequence[tuple[Mentions, Mentions]], way: str = "", rounds: int = 1000, seed: int = 0
) -> tuple[Estimate, float | None]:
    """F1 of one side less that of the other on the same drawn records, the mean over pairs of trained models, and the two-sided p
    of there being no difference; None without draws. The models stay as they are: a draw says nothing of another training.

    Args:
        way: `""` for exact, or `overlap_`, `iou_`, `char_`.
    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 15: the share of draws beyond 0. What was measured
        counts as one more draw (Davison and Hinkley 1997, section 4.2): so many draws and no more can show no p of 0.
    """
    records, columns = list(gold), {}
    for number, pair in enumerate(pairs):
        for side, found in enumerate(pair):
            if set(found) != set(gold):
                raise ContractError("the records of both sides must be those of gold")
            counts = [_summed(counts_of(set(gold[record]), set(found[record]))[0]) for record in records]
            columns |= {(number, side, name): np.array([each[name] for each in counts]) for name in WAYS[way]}
    totals, kept = Totals(records, columns), []

    def less(drawn: Drawn) -> NDArray:
        one, other = (
            np.mean([_f1(*(drawn[number, side, name] for name in WAYS[way])) for number in range(len(pairs))], axis=0)
            for side in (0, 1)
        )
        kept.append(one - other)
        return kept[-1]

    estimate = totals.estimates({"difference": less}, rounds, seed=seed)["difference"]
    # The last call is for the whole, not for a draw.
    draws = np.concatenate(kept[:-1]) if len(kept) > 1 else np.empty(0)
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return estimate, None
    least = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return estimate, min(1.0, 2 * (least + 1) / (draws.size + 1))


def _summed(counts: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Over types."""
    found: Counter[str] = Counter()
    for (name, _), count in counts.items():
        found[name] += count
    return found


def _f1(gold: NDArray, said: NDArray, hits: NDArray) -> NDArray:
    return divide(2.0 * hits, gold + said)
