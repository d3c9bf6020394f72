"""Texts that occur in several splits: what valid and test measure must not have been learned by heart.

A text that is in several splits stays in test if it is there, else in valid. Two texts are equal apart from case and blanks;
texts with a second text only if that is equal too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.records import seed_of
from engine.text.plain import plain

_LATER = {"train": ("valid", "test"), "valid": ("test",)}


@dataclass(frozen=True)
class Repeats:
    """Digests of the texts of valid and of test, sorted, eight bytes each."""

    valid: NDArray
    test: NDArray

    @classmethod
    def of(cls, tables: Iterable[pa.Table]) -> "Repeats":
        """From all reports, with `text`, `pair` and `split`, in parts."""
        digests: dict[str, list[NDArray]] = {"valid": [], "test": []}
        for table in tables:
            for split, parts in digests.items():
                parts.append(_digests(table.filter(pc.equal(table["split"], split))))
        return cls(*(np.unique(np.concatenate([np.empty(0, np.int64), *parts])) for parts in digests.values()))

    def without_repeats(self, table: pa.Table) -> pa.Table:
        """The reports that are in no later split."""
        keep = np.ones(len(table), dtype=bool)
        for split, later in _LATER.items():
            rows = np.flatnonzero(pc.equal(table["split"], split).to_numpy(zero_copy_only=False))
            keep[rows] = ~self._repeated(_digests(table.take(pa.array(rows))), later)
        return table.filter(pa.array(keep))

    def holds(self, text: str, pair: str | None) -> bool:
        """Whether a text of train is in valid or test too."""
        return bool(self._repeated(np.array([seed_of(plain(text), plain(pair))], np.int64), _LATER["train"])[0])

    def _repeated(self, digests: NDArray, splits: Iterable[str]) -> NDArray:
        repeated = np.zeros(len(digests), dtype=bool)
        for later in (getattr(self, split) for split in splits):
            repeated |= np.append(later, -1)[np.searchsorted(later, digests)] == digests
        return repeated


def _digests(table: pa.Table) -> NDArray:
    both = zip(table["text"].to_pylist(), table["pair"].to_pylist(), strict=True)
    return np.array([seed_of(plain(text), plain(pair)) for text, pair in both], np.int64)
