"""Texts that stand in two splits: what valid and test measure must not have been learned by heart.

Of a text that stands in several splits that of test stays before that of valid, and that before that of train; two texts are the
same whatever their case and blanks, and with a second text only where that is the same too.
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
        """From all reports, with `text`, `pair` and `split`, some at a time."""
        found: dict[str, list[NDArray]] = {"valid": [], "test": []}
        for table in tables:
            for split, digests in found.items():
                digests.append(_digests(table.filter(pc.equal(table["split"], split))))
        return cls(*(np.unique(np.concatenate([np.empty(0, np.int64), *each])) for each in found.values()))

    def kept(self, table: pa.Table) -> pa.Table:
        """The reports that stand in no later split too."""
        keep = np.ones(len(table), dtype=bool)
        for split, later in _LATER.items():
            rows = np.flatnonzero(pc.equal(table["split"], split).to_numpy(zero_copy_only=False))
            keep[rows] = ~self._held(_digests(table.take(pa.array(rows))), later)
        return table.filter(pa.array(keep))

    def holds(self, text: str, pair: str | None) -> bool:
        """Whether a text of train stands in valid or test."""
        return bool(self._held(np.array([seed_of(plain(text), plain(pair))], np.int64), _LATER["train"])[0])

    def _held(self, digests: NDArray, splits: Iterable[str]) -> NDArray:
        found = np.zeros(len(digests), dtype=bool)
        for known in (getattr(self, split) for split in splits):
            at = np.searchsorted(known, digests)
            found |= np.append(known, -1)[at] == digests
        return found


def _digests(table: pa.Table) -> NDArray:
    both = zip(table["text"].to_pylist(), table["pair"].to_pylist(), strict=True)
    return np.array([seed_of(plain(text), plain(pair)) for text, pair in both], np.int64)
