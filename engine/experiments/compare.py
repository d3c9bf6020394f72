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
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.resample import Drawn, Estimate, Totals, divide, mean_known, ratio
from engine.experiments.significance import against_zero


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
    found, p = against_zero(values)
    return Compared(found.value, found.low, found.high, p, len(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Compared:
    """The mean difference over seeds; the test is that of `scipy.stats.ttest_rel`."""
    return over_seeds([a - b for a, b in zip(ours, theirs, strict=True)])


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
                columns[seed, side, "given", label] = given[:, label]
                columns[seed, side, "gold", label] = gold[:, label]

    def f1(of: Drawn, seed: int, side: int) -> NDArray:
        return mean_f1(*(of.many([(seed, side, what, label) for label in labels]) for what in ("hit", "given", "gold")))

    def accuracy(of: Drawn, seed: int, side: int) -> NDArray:
        return ratio((seed, side, "right"), "n")(of)

    figure: Callable[[Drawn, int, int], NDArray] = f1 if macro else accuracy
    groups = pairs[0][0]["group"].to_pylist()
    gain = {"gain": lambda of: np.mean([figure(of, seed, 0) - figure(of, seed, 1) for seed in range(len(pairs))], axis=0)}
    return Totals(groups, columns).estimates(gain, rounds)["gain"]


def mean_f1(hits: ArrayLike, given: ArrayLike, gold: ArrayLike) -> NDArray:
    """Mean F1 over the labels that gold has, from counts [..., labels]; NaN where it has none.

    A label that is only given stands in no mean, so that whoever gives what, two sides are held against each other over the same
    labels.
    """
    hits, given, gold = (np.asarray(each, dtype=float) for each in (hits, given, gold))
    return mean_known(np.where(gold > 0, divide(2 * hits, given + gold), np.nan))


def flags_of(table: pa.Table, name: str) -> NDArray:
    """A column of truth values a label, [texts, labels]."""
    return np.array(table[name].to_pylist(), dtype=bool).reshape(len(table), -1)
