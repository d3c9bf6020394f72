"""Rows of a finished run by record id, read from its table on demand."""

import heapq
from collections.abc import Iterator, Mapping, Sequence, Set
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
    """A record's number in the draw of a sample, 0 to 2^63 - 1: records with the lowest numbers are in it."""
    return seed_of(record_id, "sample", seed)


def sample_below(files: Sequence[str], count: int, seed: int) -> int | None:
    """The draw that `count` of a run's answered records lie below; None if it has no more than `count`."""
    rows = (row for file in files for row in _rows(file, ("record_id", "decision")))
    lowest = heapq.nsmallest(count + 1, (draw(name, seed) for name, decision in rows if decision != FAILED))
    return lowest[count] if len(lowest) > count else None


@dataclass(frozen=True)
class _Group:
    """A row group of the table, with its smallest and largest source and position, None if its footer lacks them."""

    file: str
    number: int
    source: Ends | None
    position: Ends | None


class Answered:
    """Answers of a run by record id.

    Table and records are both in the order of the input. So row groups whose range overlaps a shard's records are read first, the
    others only for records of the run that are still missing. One group is in memory at a time, and eight bytes of each id.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str]) -> None:
        """`columns` are those of the table that hold the answers, and the digests of what they are about."""
        self._files = tuple(files)
        self._columns = ["record_id", "decision", *columns]
        self._held: tuple[_Group, pa.Table] | None = None

    def of(self, records: pa.Table) -> dict[str, dict[str, Any]]:
        """Record id -> the run's `decision` and `columns`, for the records that it has.

        Args:
            records: `record_id`, `source` and `position`.
        """
        if not records.num_rows:
            return {}
        wanted = set(records["record_id"].to_pylist())
        sources, positions = (pc.min_max(records[name]).as_py() for name in ("source", "position"))
        rows: dict[str, dict[str, Any]] = {}
        near = [group for group in self._groups if _overlap(group.source, sources) and _overlap(group.position, positions)]
        self._add(wanted, near, rows)
        if len(rows) < len(wanted):
            elsewhere = {name for name in wanted - rows.keys() if self._has(name)}
            self._add(rows.keys() | elsewhere, [group for group in self._groups if group not in near], rows)
        return rows

    def _add(self, wanted: Set[str], groups: Sequence[_Group], rows: dict[str, dict[str, Any]]) -> None:
        for group in groups:
            if len(rows) == len(wanted):
                break
            table = self._read(group)
            missing = pa.array(sorted(wanted - rows.keys()), pa.string())
            rows.update((row["record_id"], row) for row in table.filter(pc.is_in(table["record_id"], missing)).to_pylist())

    def _has(self, record_id: str) -> bool:
        at = np.searchsorted(self._ids, seed_of(record_id))
        return bool(at < len(self._ids) and self._ids[at] == seed_of(record_id))

    @cached_property
    def _ids(self) -> np.ndarray:
        """A digest of each id of the table, sorted."""
        digests = (seed_of(name) for file in self._files for (name,) in _rows(file, ("record_id",)))
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
            statistics = footer.row_group(number).column(names.index(name)).statistics
            ends[name] = (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None
        yield _Group(file, number, ends["source"], ends["position"])


def _rows(file: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    with storage_for(file).open(file) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _overlap(ends: Ends | None, values: Mapping[str, Any]) -> bool:
    return ends is None or (ends[0] <= values["max"] and values["min"] <= ends[1])
