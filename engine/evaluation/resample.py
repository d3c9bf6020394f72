"""Intervals for many figures at once: patients are drawn again and again, and every figure follows from sums over patients.

A figure here is a function of totals (rows right, rows coded, hits of a class ...). The totals of a resample are the drawn
counts of the groups times each group's own totals, so that one matrix product a chunk of rounds serves every figure, and the
figures of one table rest on the same draws.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_matrix
from scipy.stats import beta

from engine.errors import ContractError

FEWEST = 6
"""Groups that a figure must rest on. Were all of five right, the exact 95 % interval would still hold the half that a coin gives
(0.025 ** (1 / 5) = 0.48); from six on it does not (0.54)."""

_CELLS = 20_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; None where it is not defined (nothing to divide by)."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rest:
    """What a figure rests on: rows (or mentions, or characters), and the groups that they stand in."""

    n: int
    groups: int


class Totals:
    """Named sums by group; a name is whatever can be a key.

    Args:
        groups: one key a row, such as the patient. Rows of one group are drawn together.
        columns: [rows] each, numbers or truth values.
    """

    def __init__(self, groups: ArrayLike, columns: Mapping[Any, ArrayLike]) -> None:
        keys, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        rows, at, sums = [], [], []
        for number, values in enumerate(columns.values()):
            values = np.asarray(values, dtype=np.float64)
            if values.shape != group.shape:
                raise ContractError(f"a column of {values.shape} for {group.shape} rows")
            there = np.flatnonzero(values)
            rows.append(group[there])
            at.append(np.full(there.size, number))
            sums.append(values[there])
        self._hold(keys.size, list(columns), rows, at, sums)

    @classmethod
    def by_part(cls, groups: ArrayLike, rows: pl.DataFrame) -> "Totals":
        """Sums by group and part; a sum's name is that of its column, and the part.

        Args:
            groups: every group, those without a row too.
            rows: `unit` (the group) and `part` of each, and columns of numbers or truth values; a row of several parts stands
                there several times.
        """
        keys = np.unique(np.asarray(groups, dtype=str))
        parts = rows.select(pl.col("part").unique(maintain_order=True)).with_row_index("column")
        units = pl.DataFrame({"unit": keys.tolist()}, schema={"unit": pl.String}).with_row_index("row")
        names = [name for name in rows.columns if name not in ("unit", "part")]
        sums = (
            rows.group_by("unit", "part").agg(pl.col(names).cast(pl.Float64).sum()).join(units, on="unit").join(parts, on="part")
        )
        found = [
            sums.filter(pl.col(name) != 0).select("row", pl.col("column") + number * len(parts), name).to_numpy().T
            for number, name in enumerate(names)
        ]
        totals = cls.__new__(cls)
        totals._hold(keys.size, list(product(names, parts["part"])), *zip(*found, strict=True))
        return totals

    def _hold(self, groups: int, names: Sequence[Any], rows: Any, at: Any, sums: Any) -> None:
        if not groups or not names:
            raise ContractError("totals of nothing")
        rows, at, sums = (np.concatenate(each) for each in (rows, at, sums))
        self.groups, self._at = groups, {name: number for number, name in enumerate(names)}
        self._sums = csc_matrix((sums, (rows.astype(int), at.astype(int))), shape=(groups, len(names)))

    def column(self, name: Any) -> NDArray:
        """The sums of one column, [groups]."""
        return self._sums[:, [self._at[name]]].toarray()[:, 0]

    def rest(self, *names: Any) -> Rest:
        """What some columns count together, and in how many groups."""
        held = self._sums
        some = np.concatenate([np.arange(*held.indptr[self._at[name] :][:2]) for name in names])
        return Rest(round(held.data[some].sum()), np.unique(held.indices[some]).size)

    def estimates(
        self,
        figures: Mapping[Any, Callable[["Drawn"], NDArray]],
        rounds: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> dict[Any, Estimate]:
        """Each figure with its percentile interval over resamples of the groups.

        Args:
            figures: from totals to the figure, elementwise over rounds; NaN where it is not defined.
        """
        whole = Drawn(np.asarray(self._sums.sum(axis=0)).reshape(1, -1), self._at)
        found: dict[Any, list[NDArray]] = {name: [] for name in figures}
        for counts in draws(self.groups, rounds, seed, max(self._sums.shape)):
            drawn = Drawn(np.asarray(counts @ self._sums), self._at)
            for name, figure in figures.items():
                found[name].append(figure(drawn))
        return {name: estimate(figure(whole)[0], found[name], level) for name, figure in figures.items()}


class Drawn:
    """Totals of some resamples: `drawn[name]` is [rounds]."""

    def __init__(self, totals: NDArray, at: Mapping[Any, int]) -> None:
        self._totals, self._at = totals, at

    def __getitem__(self, name: Any) -> NDArray:
        return self._totals[:, self._at[name]]

    def many(self, names: Sequence[Any]) -> NDArray:
        """[rounds, names]."""
        return self._totals[:, [self._at[name] for name in names]]


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums by part (see `Totals.by_part`); of an F1, hits are above, what is right and what was given below."""

    above: str
    below: tuple[str, ...]
    is_f1: bool = False

    def over(self, parts: Sequence[Any]) -> Callable[[Drawn], NDArray]:
        """The figure over some parts together; NaN where there is nothing to divide by."""

        def figure(drawn: Drawn) -> NDArray:
            above, *below = (drawn.many([(name, part) for part in parts]).sum(1) for name in (self.above, *self.below))
            return divide(above * 2.0 if self.is_f1 else above, sum(below))

        return figure

    def rest(self, totals: Totals, parts: Sequence[Any]) -> Rest:
        """What it rests on; a hit, which is both right and given, is one of them."""
        below = totals.rest(*product(self.below, parts))
        return Rest(below.n - totals.rest(*product([self.above], parts)).n, below.groups) if self.is_f1 else below


def precision_recall_f1(right: str, given: str, hits: str, prefix: str = "") -> dict[str, Ratio]:
    """The three figures of what is right, what was given, and what is both."""
    return {
        f"{prefix}precision": Ratio(hits, (given,)),
        f"{prefix}recall": Ratio(hits, (right,)),
        f"{prefix}f1": Ratio(hits, (right, given), is_f1=True),
    }


def draws(groups: int, rounds: int, seed: int, cells: int) -> Iterator[NDArray]:
    """How often each group is drawn in each round, [some rounds, groups] at a time; `cells` is how many numbers a round takes.

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), §3.8: whole clusters are drawn.
    """
    generator, chunk = np.random.default_rng(seed), max(1, _CELLS // cells)
    for start in range(0, rounds, chunk):
        some = range(min(chunk, rounds - start))
        yield np.stack([np.bincount(generator.integers(groups, size=groups), minlength=groups) for _ in some])


def estimate(value: float, drawn: Sequence[NDArray], level: float) -> Estimate:
    """A figure with the percentile interval of what it is in draws; where it is NaN, it is not defined."""
    rest = np.concatenate(drawn) if drawn else np.empty(0)
    rest = rest[~np.isnan(rest)]
    if np.isnan(value) or not rest.size:
        return Estimate(None if np.isnan(value) else float(value))
    return Estimate(float(value), *map(float, np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])))


def ratio(above: Any, below: Any) -> Callable[[Drawn], NDArray]:
    """The figure `above / below`, NaN where `below` is 0."""
    return lambda drawn: divide(drawn[above], drawn[below])


def divide(above: NDArray, below: NDArray) -> NDArray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


def mean_known(values: NDArray) -> NDArray:
    """The mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def share_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share: what a resample cannot give where every row, or none, is a hit.

    Source:
        Clopper and Pearson, Biometrika 26 (1934).
    """
    if not 0 <= hits <= n or n == 0:
        raise ContractError(f"{hits} hits of {n}")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
