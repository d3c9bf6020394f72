"""Bootstrap intervals for many figures at once: patients are resampled, and every figure is computed from sums over patients.

A figure is a function of totals (rows right, rows coded, hits of a class ...). The totals of a resample are the group counts
drawn times each group's own totals. So one matrix product per chunk of rounds serves every figure, and all figures of a table
rest on the same draws.
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
"""The fewest groups that a figure may rest on. If all of five are right, the exact 95 % interval still contains one half, which a
coin reaches (0.025 ** (1 / 5) = 0.48); from six on it does not (0.54)."""

_CELLS = 20_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; None if it is undefined (nothing to divide by)."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rest:
    """What a figure rests on: the number of rows (or mentions, or characters), and of the groups that they belong to."""

    n: int
    groups: int


class Totals:
    """Named sums by group; a name is any hashable value.

    Args:
        groups: one key per row, such as the patient. Rows of one group are drawn together.
        columns: [rows] each, numbers or booleans.
    """

    def __init__(self, groups: ArrayLike, columns: Mapping[Any, ArrayLike]) -> None:
        keys, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        rows, at, sums = [], [], []
        for number, values in enumerate(columns.values()):
            values = np.asarray(values, dtype=np.float64)
            if values.shape != group.shape:
                raise ContractError(f"a column of {values.shape} for {group.shape} rows")
            nonzero = np.flatnonzero(values)
            rows.append(group[nonzero])
            at.append(np.full(nonzero.size, number))
            sums.append(values[nonzero])
        self._store(keys.size, list(columns), rows, at, sums)

    @classmethod
    def by_part(cls, groups: ArrayLike, rows: pl.DataFrame) -> "Totals":
        """Sums by group and part, each named (column, part).

        Args:
            groups: every group, including those without a row.
            rows: `unit` (the group), `part`, and columns of numbers or booleans; a row in several parts is repeated.
        """
        keys = np.unique(np.asarray(groups, dtype=str))
        parts = rows.select(pl.col("part").unique(maintain_order=True)).with_row_index("column")
        units = pl.DataFrame({"unit": keys.tolist()}, schema={"unit": pl.String}).with_row_index("row")
        names = [name for name in rows.columns if name not in ("unit", "part")]
        sums = (
            rows.group_by("unit", "part").agg(pl.col(names).cast(pl.Float64).sum()).join(units, on="unit").join(parts, on="part")
        )
        entries = [
            sums.filter(pl.col(name) != 0).select("row", pl.col("column") + number * len(parts), name).to_numpy().T
            for number, name in enumerate(names)
        ]
        totals = cls.__new__(cls)
        totals._store(keys.size, list(product(names, parts["part"])), *zip(*entries, strict=True))
        return totals

    def _store(self, groups: int, names: Sequence[Any], rows: Any, at: Any, sums: Any) -> None:
        if not groups or not names:
            raise ContractError("totals of nothing")
        rows, at, sums = (np.concatenate(each) for each in (rows, at, sums))
        self.groups, self._at = groups, {name: number for number, name in enumerate(names)}
        self._sums = csc_matrix((sums, (rows.astype(int), at.astype(int))), shape=(groups, len(names)))

    def rest(self, *names: Any) -> Rest:
        """The sum of some columns together, and the number of groups that contribute to it."""
        sums = self._sums
        entries = np.concatenate([np.arange(*sums.indptr[self._at[name] :][:2]) for name in names])
        return Rest(round(sums.data[entries].sum()), np.unique(sums.indices[entries]).size)

    def estimates(
        self, figures: Mapping[Any, Callable[["Drawn"], NDArray]], rounds: int = 1000, level: float = 0.95, seed: int = 0
    ) -> dict[Any, Estimate]:
        """Each figure with its percentile interval over resamples of the groups.

        Args:
            figures: functions from totals to the figure, elementwise over rounds; NaN where it is undefined.
        """
        whole = Drawn(np.asarray(self._sums.sum(axis=0)).reshape(1, -1), self._at)
        values: dict[Any, list[NDArray]] = {name: [] for name in figures}
        for counts in draws(self.groups, rounds, seed, max(self._sums.shape)):
            drawn = Drawn(np.asarray(counts @ self._sums), self._at)
            for name, figure in figures.items():
                values[name].append(figure(drawn))
        return {name: estimate(figure(whole)[0], values[name], level) for name, figure in figures.items()}


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
    """A ratio of sums by part (see `Totals.by_part`). For an F1, `above` counts hits and `below` what is right and what was
    given."""

    above: str
    below: tuple[str, ...]
    is_f1: bool = False

    def over(self, parts: Sequence[Any]) -> Callable[[Drawn], NDArray]:
        """The figure over some parts together; NaN if there is nothing to divide by."""

        def figure(drawn: Drawn) -> NDArray:
            above, *below = (drawn.many([(name, part) for part in parts]).sum(1) for name in (self.above, *self.below))
            return divide(above * 2.0 if self.is_f1 else above, sum(below))

        return figure

    def rest(self, totals: Totals, parts: Sequence[Any]) -> Rest:
        """What the figure rests on; of an F1 a hit, which is both right and given, counts once."""
        below = totals.rest(*product(self.below, parts))
        return Rest(below.n - totals.rest(*product([self.above], parts)).n, below.groups) if self.is_f1 else below


def precision_recall_f1(right: str, given: str, hits: str, prefix: str = "") -> dict[str, Ratio]:
    """The three figures, from the names of the counts of what is right, what was given, and what is both."""
    return {
        f"{prefix}precision": Ratio(hits, (given,)),
        f"{prefix}recall": Ratio(hits, (right,)),
        f"{prefix}f1": Ratio(hits, (right, given), is_f1=True),
    }


def draws(groups: int, rounds: int, seed: int, cells: int) -> Iterator[NDArray]:
    """How often each group is drawn in each round, [rounds of a chunk, groups] at a time; a round takes `cells` numbers of
    memory.

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application (1997), §3.8: whole clusters are drawn.
    """
    generator, chunk = np.random.default_rng(seed), max(1, _CELLS // cells)
    for start in range(0, rounds, chunk):
        yield np.stack(
            [np.bincount(generator.integers(groups, size=groups), minlength=groups) for _ in range(min(chunk, rounds - start))]
        )


def estimate(value: float, drawn: Sequence[NDArray], level: float) -> Estimate:
    """A figure with the percentile interval of its values in the draws; NaN means undefined."""
    values = np.concatenate(drawn) if drawn else np.empty(0)
    values = values[~np.isnan(values)]
    if np.isnan(value) or not values.size:
        return Estimate(None if np.isnan(value) else float(value))
    return Estimate(float(value), *map(float, np.quantile(values, [(1 - level) / 2, (1 + level) / 2])))


def ratio(above: Any, below: Any) -> Callable[[Drawn], NDArray]:
    """The figure `above / below`, NaN where `below` is 0."""
    return lambda drawn: divide(drawn[above], drawn[below])


def divide(above: NDArray, below: NDArray) -> NDArray:
    """`above / below`, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


def mean_known(values: NDArray) -> NDArray:
    """The mean over the last axis, without NaN; NaN if nothing else is there."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def share_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share, for shares of 0 or 1, where resamples give none.

    Source:
        Clopper and Pearson, Biometrika 26 (1934).
    """
    if not 0 <= hits <= n or n == 0:
        raise ContractError(f"{hits} hits of {n}")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
