"""Examples as a stream: a worker holds one window of the epoch's order, and of that only what falls to it.

The order is `engine.shuffling`'s, so where a step stands says which examples it takes; a resumed training opens the stream at its
window. Windows are read ahead by Ray Data where the training has more than one, by this process itself otherwise.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ContractError
from engine.models.examples import Index, read_shard
from engine.shuffling import Epoch, Shuffle
from engine.storage import S3Config, use_s3

Unit = tuple[int, int]


@dataclass(frozen=True)
class Share:
    """Which places of an epoch's order a worker takes: of each `batch` every `world`-th from `rank` on. No batch: all."""

    rank: int = 0
    world: int = 1
    batch: int = 0

    def of(self, places: np.ndarray) -> np.ndarray:
        return places % self.batch % self.world == self.rank if self.batch else np.ones(len(places), dtype=bool)


@dataclass(frozen=True)
class Reader:
    """Reads a worker's share of a window: the columns of its shards, and `number`, `epoch` and `window`; wherever it is sent."""

    folder: str
    shuffle: Shuffle
    share: Share
    s3: S3Config

    def __call__(self, unit: Unit) -> pa.Table:
        use_s3(self.s3)
        epoch = self.shuffle.epoch(unit[0])
        members = epoch.window(unit[1])
        first = int(epoch.bounds[unit[1]])
        mine = np.unique(members[self.share.of(np.arange(first, first + len(members)))])
        parts = []
        for shard in sorted(epoch.shards_of(unit[1]).tolist()):
            base, end = self.shuffle.base[shard], self.shuffle.base[shard + 1]
            wanted = mine[(mine >= base) & (mine < end)]
            table = read_shard(self.folder, "train", shard).take(pa.array(wanted - base))
            parts.append(table.append_column("number", pa.array(wanted)))
        found = pa.concat_tables(parts).combine_chunks()
        for name, value in zip(("epoch", "window"), unit, strict=True):
            found = found.append_column(name, pa.array(np.full(len(found), value)))
        return found


Flow = Callable[[Iterable[Unit], Callable[[Unit], pa.Table]], Generator[pa.Table]]


def _here(units: Iterable[Unit], read: Callable[[Unit], pa.Table]) -> Generator[pa.Table]:
    yield from map(read, units)


class Stream:
    """See `engine.models.examples.Source`.

    Args:
        decode: a table of shards as examples. window: shards of a window. flow: calls a reader for window after window, ahead
            of need or not; the answers come in order.
    """

    def __init__(
        self,
        folder: str,
        index: Index,
        decode: Callable[[pa.Table], Any],
        *,
        window: int,
        share: Share,
        s3: S3Config,
        flow: Flow = _here,
    ) -> None:
        self._folder, self._index, self._decode = folder, index, decode
        self._window, self._share, self._s3, self._flow = window, share, s3, flow
        self._shuffle: Shuffle | None = None
        self._epoch: Epoch | None = None
        self._open: Iterator[pa.Table] | None = None
        self._at: Unit | None = None
        self._table: pa.Table | None = None

    @property
    def mixed(self) -> bool:
        return any(self._index.samples)

    @property
    def resident(self) -> int:
        """Examples held."""
        return 0 if self._table is None else len(self._table)

    def order(self, epoch: int, ratio: float, seed: int) -> Epoch:
        if self._shuffle is None or (self._shuffle.ratio, self._shuffle.seed) != (ratio, seed):
            self.close()
            self._shuffle = Shuffle(self._index.reports, self._index.samples, ratio, seed, self._window)
            self._epoch = None
        if self._epoch is None or self._epoch.number != epoch:
            self._epoch = self._shuffle.epoch(epoch)
        return self._epoch

    def hold(self, members: Sequence[int], epoch: int) -> tuple[Any, list[int]]:
        if not members:
            return self._nothing, []
        order = self.order(epoch, self._shuffle.ratio, self._shuffle.seed) if self._shuffle else None
        if order is None:
            raise ContractError("examples are asked for before their order")
        parts = []
        for window, run in groupby(members, key=order.window_of):
            table, wanted = self._read((epoch, window)), np.array(list(run))
            place = np.searchsorted(table["number"].to_numpy(), wanted)
            found = table.take(pa.array(np.minimum(place, len(table) - 1)))
            if not np.array_equal(found["number"].to_numpy(), wanted):
                raise ContractError("a worker was asked for examples that are not its own")
            parts.append(found)
        return self._decode(pa.concat_tables(parts)), list(range(len(members)))

    @cached_property
    def _nothing(self) -> Any:
        return self._decode(read_shard(self._folder, "train").slice(0, 0))

    def held_back(self) -> Iterator[tuple[Any, list[int]]]:
        for number, count in enumerate(self._index.valid):
            yield self._decode(read_shard(self._folder, "valid", number)), list(range(count))

    def close(self) -> None:
        """Ends the reading ahead and lets go of what is held; what is asked for afterwards is read anew."""
        if self._open is not None:
            self._open.close()
        self._open = self._at = self._table = None

    def _read(self, unit: Unit) -> pa.Table:
        if self._at != unit:
            self._table = None
            self._table, self._at = self._next(unit), unit
        return self._table

    def _next(self, unit: Unit) -> pa.Table:
        """The window from the open stream; from one that is opened there, where it does not come next."""
        for fresh in (False, True):
            if fresh:
                self.close()
                self._open = self._flow(self._units(unit), Reader(self._folder, self._shuffle, self._share, self._s3))
            for table in self._open or ():
                found = (table["epoch"][0].as_py(), table["window"][0].as_py()) if len(table) else unit[:0]
                if found == unit:
                    return table
                if found > unit:
                    break
        raise ContractError(f"window {unit[1]} of epoch {unit[0]} did not come")

    def _units(self, start: Unit) -> Iterator[Unit]:
        epoch, window = start
        while True:
            windows = self._shuffle.epoch(epoch).windows
            yield from ((epoch, each) for each in range(window, windows))
            epoch, window = epoch + 1, 0
