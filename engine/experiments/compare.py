"""Two ways of training compared: seed by seed with a paired t-test, and record by record within each seed.

A seed decides what a head starts from, the order of its texts and what a regime draws; the interval over seeds says what another
training would give on the same test texts. The interval over records keeps the trainings and draws the test texts anew, the same
ones for both sides. Neither knows of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.resample import Drawn, Estimate, Totals, divide, ratio


@dataclass(frozen=True)
class Compared:
    """A mean over seeds with its 95 % t interval, the p of a two-sided t-test that it is 0, and how many seeds there were."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def over_seeds(values: Sequence[float]) -> Compared:
    """Of one value a seed, a difference or a figure itself. Where no seed changes it there is nothing to test; one seed alone has
    no interval."""
    from scipy.stats import ttest_1samp

    found = np.asarray(values, dtype=float)
    value = float(found.mean())
    if len(found) < 2:
        return Compared(value, None, None, None, len(found))
    if np.ptp(found) == 0:
        return Compared(value, value, value, None, len(found))
    test = ttest_1samp(found, 0.0)
    low, high = test.confidence_interval(0.95)
    return Compared(value, float(low), float(high), float(test.pvalue), len(found))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Compared:
    """The mean difference over seeds; the test is that of `scipy.stats.ttest_rel`."""
    return over_seeds(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))


def holm(found: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for being several; one that is missing stays so and counts for nothing.

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    known = sorted((p, place) for place, p in enumerate(found) if p is not None)
    corrected: list[float | None] = [None] * len(found)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[place] = least
    return corrected


def over_records(pairs: Sequence[tuple[pa.Table, pa.Table]], rounds: int, macro: bool) -> Estimate:
    """The difference in macro-F1, or in accuracy, meant over seeds, with its interval over groups of test texts.

    Args:
        pairs: for each seed the answers of both sides, `group`, `gold` and `given` of the same texts in the same order.
    """
    columns: dict[Any, Any] = {"n": np.ones(len(pairs[0][0]))}
    labels = range(flags_of(pairs[0][0], "gold").shape[1])
    for seed, sides in enumerate(pairs):
        for side, table in enumerate(sides):
            gold, given = flags_of(table, "gold"), flags_of(table, "given")
            columns[seed, side, "right"] = (gold == given).all(1)
            for label in labels if macro else ():
                columns[seed, side, "hit", label] = gold[:, label] & given[:, label]
                columns[seed, side, "sum", label] = gold[:, label].astype(int) + given[:, label]

    def f1(of: Drawn, seed: int, side: int) -> NDArray:
        hits, sums = (of.many([(seed, side, what, label) for label in labels]) for what in ("hit", "sum"))
        each = divide(2 * hits, sums)
        return divide(np.nansum(each, 1), np.isfinite(each).sum(1))

    def accuracy(of: Drawn, seed: int, side: int) -> NDArray:
        return ratio((seed, side, "right"), "n")(of)

    figure: Callable[[Drawn, int, int], NDArray] = f1 if macro else accuracy
    groups = pairs[0][0]["group"].to_pylist()
    gain = {"gain": lambda of: np.mean([figure(of, seed, 0) - figure(of, seed, 1) for seed in range(len(pairs))], axis=0)}
    return Totals(groups, columns).estimates(gain, rounds)["gain"]


def flags_of(table: pa.Table, name: str) -> NDArray:
    """A column of truth values a label, [texts, labels]."""
    return np.array(table[name].to_pylist(), dtype=bool).reshape(len(table), -1)
