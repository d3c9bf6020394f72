"""What a finished run says about some records, read from its table as they are asked for."""

import heapq
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.records import FAILED, seed_of
from engine.storage import storage_for

Ends = tuple[Any, Any]


def draw(record_id: str, seed: int) -> int:
    """A record's place in the draw of a sample, 0 to 2^63 - 1: the lowest ones are taken, wherever they stand in the input."""
    return seed_of(record_id, "sample", seed)


def sample_below(files: Sequence[str], count: int, seed: int) -> int | None:
    """The draw below which `count` of a run's answered records lie; None where it has no more than these."""
    places = (
        draw(name, seed) for file in files for name, decision in _pairs(file, ("record_id", "decision")) if decision != FAILED
    )
    lowest = heapq.nsmallest(count + 1, places)
    return lowest[count] if len(lowest) > count else None


@dataclass(frozen=True)
class _Group:
    """A row group of the table, with the least and greatest source and position in it where its footer tells."""

    file: str
    number: int
    source: Ends | None
    position: Ends | None

    def near(self, sources: Ends, positions: Ends) -> bool:
        return _meet(self.source, sources) and _meet(self.position, positions)


class Answered:
    """Answers of a run by record id.

    The table lies in the order of the input, as records come: the row groups that hold a shard's neighbours are read first, and
    the others only for records of the run that are not there. One group is held at a time, and eight bytes of each id.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str]) -> None:
        """`columns` are those that say what was answered, as `codes` has them for each of its tasks."""
        self._files = tuple(files)
        self._columns = ["record_id", "decision", "text_sha256", *columns]
        self._held: tuple[_Group, pa.Table] | None = None

    def of(self, records: pa.Table) -> dict[str, dict[str, Any]]:
        """Record id -> the run's `decision`, `text_sha256` and answers, for those records that it has.

        Args:
            records: `record_id`, `source` and `position`.
        """
        if not records.num_rows:
            return {}
        wanted = set(records["record_id"].to_pylist())
        sources, positions = (_ends(records[name].to_pylist()) for name in ("source", "position"))
        found: dict[str, dict[str, Any]] = {}
        near = [group for group in self._groups if group.near(sources, positions)]
        self._find(wanted, near, found)
        if len(found) < len(wanted):
            elsewhere = {name for name in wanted - found.keys() if self._has(name)}
            self._find(found.keys() | elsewhere, [group for group in self._groups if group not in near], found)
        return found

    def _find(self, wanted: Set[str], groups: Sequence[_Group], found: dict[str, dict[str, Any]]) -> None:
        for group in groups:
            if len(found) == len(wanted):
                break
            table = self._read(group)
            missing = pa.array(sorted(wanted - found.keys()), pa.string())
            for row in table.filter(pc.is_in(table["record_id"], missing)).to_pylist():
                found[row["record_id"]] = row

    def _has(self, record_id: str) -> bool:
        at = np.searchsorted(self._ids, seed_of(record_id))
        return bool(at < len(self._ids) and self._ids[at] == seed_of(record_id))

    @cached_property
    def _ids(self) -> np.ndarray:
        """A digest of each id of the table, sorted."""
        digests = (seed_of(name) for file in self._files for (name,) in _pairs(file, ("record_id",)))
        return np.sort(np.fromiter(digests, np.int64))

    @cached_property
    def _groups(self) -> list[_Group]:
        return [group for file in self._files for group in _groups(file)]

    def _read(self, group: _Group) -> pa.Table:
        if self._held is None or self._held[0] != group:
            with storage_for(group.file).open(group.file) as stream:
                self._held = (group, pq.ParquetFile(stream).read_row_group(group.number, columns=self._columns))
        return self._held[1]


def _groups(file: str) -> Iterator[_Group]:
    with storage_for(file).open(file) as stream:
        footer = pq.ParquetFile(stream).metadata
    names = [footer.schema.column(index).path for index in range(footer.num_columns)]
    for number in range(footer.num_row_groups):
        ends: dict[str, Ends | None] = {}
        for name in ("source", "position"):
            told = footer.row_group(number).column(names.index(name)).statistics
            ends[name] = (told.min, told.max) if told is not None and told.has_min_max else None
        yield _Group(file, number, ends["source"], ends["position"])


def _pairs(file: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    with storage_for(file).open(file) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _ends(values: Sequence[Any]) -> Ends:
    return min(values), max(values)


def _meet(one: Ends | None, other: Ends) -> bool:
    return one is None or (one[0] <= other[1] and other[0] <= one[1])
