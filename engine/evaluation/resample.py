"""Intervals for many figures at once: patients are drawn again and again, and every figure follows from sums over patients.

A figure here is a function of totals (rows right, rows coded, hits of a class ...). The totals of a resample are the drawn
counts of the groups times each group's own totals, so that one matrix product a chunk of rounds serves every figure, and the
figures of one table rest on the same draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix
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


class Totals:
    """Named sums by group; a name is whatever can be a key.

    Args:
        groups: one key a row, such as the patient. Rows of one group are drawn together.
        columns: [rows] each, numbers or truth values.
    """

    def __init__(self, groups: Sequence[str], columns: Mapping[Any, ArrayLike]) -> None:
        keys, self._group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups = keys.size
        self._at = {name: number for number, name in enumerate(columns)}
        if not self.groups or not columns:
            raise ContractError("totals of nothing")
        parts = [self._sparse(np.asarray(values, dtype=np.float64), number) for number, values in enumerate(columns.values())]
        rows, at, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        self._sums = csr_matrix(coo_matrix((values, (rows, at)), shape=(self.groups, len(columns))))
        self._resting = self._sums.getnnz(axis=0)

    def _sparse(self, values: NDArray, number: int) -> tuple[NDArray, NDArray, NDArray]:
        if values.shape != self._group.shape:
            raise ContractError(f"a column of {values.shape} for {self._group.shape} rows")
        there = np.flatnonzero(values)
        return self._group[there], np.full(there.size, number), values[there]

    def resting(self, name: Any) -> int:
        """How many groups a column counts anything in."""
        return int(self._resting[self._at[name]])

    def column(self, name: Any) -> NDArray:
        """The sums of one column, [groups]."""
        return self._sums[:, [self._at[name]]].toarray()[:, 0]

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
        Source:
            Davison and Hinkley, Bootstrap Methods and their Application (1997), §3.8: whole clusters are drawn.
        """
        whole = Drawn(np.asarray(self._sums.sum(axis=0)).reshape(1, -1), self._at)
        generator = np.random.default_rng(seed)
        chunk = max(1, min(rounds, _CELLS // self.groups))
        found: dict[Any, list[NDArray]] = {name: [] for name in figures}
        for start in range(0, rounds, chunk):
            counts = np.stack([self._draw(generator) for _ in range(min(chunk, rounds - start))])
            drawn = Drawn(np.asarray(counts @ self._sums), self._at)
            for name, figure in figures.items():
                found[name].append(figure(drawn))
        estimates = {}
        for name, figure in figures.items():
            value = float(figure(whole)[0])
            rest = np.concatenate(found[name]) if found[name] else np.empty(0)
            rest = rest[~np.isnan(rest)]
            if np.isnan(value) or not rest.size:
                estimates[name] = Estimate(None if np.isnan(value) else value)
                continue
            low, high = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])
            estimates[name] = Estimate(value, float(low), float(high))
        return estimates

    def _draw(self, generator: np.random.Generator) -> NDArray:
        return np.bincount(generator.integers(self.groups, size=self.groups), minlength=self.groups)


class Drawn:
    """Totals of some resamples: `drawn[name]` is [rounds]."""

    def __init__(self, totals: NDArray, at: Mapping[Any, int]) -> None:
        self._totals, self._at = totals, at

    def __getitem__(self, name: Any) -> NDArray:
        return self._totals[:, self._at[name]]

    def many(self, names: Sequence[Any]) -> NDArray:
        """[rounds, names]."""
        return self._totals[:, [self._at[name] for name in names]]


def ratio(above: Any, below: Any) -> Callable[[Drawn], NDArray]:
    """The figure `above / below`, NaN where `below` is 0."""
    return lambda drawn: divide(drawn[above], drawn[below])


def divide(above: NDArray, below: NDArray) -> NDArray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below != 0)


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
