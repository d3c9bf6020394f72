"""Examples as a stream: a worker holds one window of the epoch's order, and of that window only its own share.

The order is `engine.shuffling`'s, so a step's place in the epoch says which examples it takes, and a resumed training opens the
stream at its window. A training with several windows reads them ahead through Ray Data, one with a single window in this process.
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

# A window: the number of its epoch and its own.
Window = tuple[int, int]
Flow = Callable[[Iterable[Window], Callable[[Window], pa.Table]], Generator[pa.Table]]


@dataclass(frozen=True)
class Share:
    """Which places of an epoch's order a worker takes: of each `batch` every `world`-th from `rank` on; all if `batch` is 0."""

    rank: int = 0
    world: int = 1
    batch: int = 0

    def of(self, places: np.ndarray) -> np.ndarray:
        return places % self.batch % self.world == self.rank if self.batch else np.ones(len(places), dtype=bool)


@dataclass(frozen=True)
class Reader:
    """Reads a worker's share of a window, in whatever process: the columns of its shards, and `number`, `epoch`, `window`."""

    folder: str
    shuffle: Shuffle
    share: Share
    s3: S3Config

    def __call__(self, window: Window) -> pa.Table:
        use_s3(self.s3)
        epoch = self.shuffle.epoch(window[0])
        members = epoch.window(window[1])
        first = int(epoch.bounds[window[1]])
        numbers = np.unique(members[self.share.of(np.arange(first, first + len(members)))])
        parts = []
        for shard in sorted(epoch.shards_of(window[1]).tolist()):
            base, end = self.shuffle.base[shard], self.shuffle.base[shard + 1]
            in_shard = numbers[(numbers >= base) & (numbers < end)]
            part = read_shard(self.folder, "train", shard).take(pa.array(in_shard - base))
            parts.append(part.append_column("number", pa.array(in_shard)))
        table = pa.concat_tables(parts).combine_chunks()
        for name, value in zip(("epoch", "window"), window, strict=True):
            table = table.append_column(name, pa.array(np.full(len(table), value)))
        return table


def _one_by_one(windows: Iterable[Window], read: Callable[[Window], pa.Table]) -> Generator[pa.Table]:
    yield from map(read, windows)


class Stream:
    """`engine.models.examples.Source` on the shards of a folder.

    Args:
        decode: turns a table of shards into examples. window: shards in a window. flow: calls a reader for one window after
            another, ahead of need or not, and gives the tables in order.
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
        flow: Flow = _one_by_one,
    ) -> None:
        self._folder, self._index, self._decode = folder, index, decode
        self._size, self._share, self._s3, self._flow = window, share, s3, flow
        self._shuffle: Shuffle | None = None
        self._epoch: Epoch | None = None
        self._tables: Iterator[pa.Table] | None = None
        self._window: Window | None = None
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
            self._shuffle = Shuffle(self._index.reports, self._index.samples, ratio, seed, self._size)
            self._epoch = None
        if self._epoch is None or self._epoch.number != epoch:
            self._epoch = self._shuffle.epoch(epoch)
        return self._epoch

    def hold(self, members: Sequence[int], epoch: int) -> tuple[Any, list[int]]:
        if not members:
            return self._nothing, []
        if self._shuffle is None:
            raise ContractError("examples are asked for before their order")
        order = self.order(epoch, self._shuffle.ratio, self._shuffle.seed)
        parts = []
        for window, group in groupby(members, key=order.window_of):
            table, numbers = self._read((epoch, window)), np.array(list(group))
            place = np.searchsorted(table["number"].to_numpy(), numbers)
            part = table.take(pa.array(np.minimum(place, len(table) - 1)))
            if not np.array_equal(part["number"].to_numpy(), numbers):
                raise ContractError("a worker was asked for examples that are not its own")
            parts.append(part)
        return self._decode(pa.concat_tables(parts)), list(range(len(members)))

    @cached_property
    def _nothing(self) -> Any:
        return self._decode(read_shard(self._folder, "train").slice(0, 0))

    def held_back(self) -> Iterator[tuple[Any, list[int]]]:
        for number, count in enumerate(self._index.valid):
            yield self._decode(read_shard(self._folder, "valid", number)), list(range(count))

    def close(self) -> None:
        """Ends the reading ahead and drops what is held; later reads open the stream anew."""
        if self._tables is not None:
            self._tables.close()
        self._tables = self._window = self._table = None

    def _read(self, window: Window) -> pa.Table:
        """The table of a window: in hand, further on in the open stream, or the first of a stream that is opened there."""
        if self._window != window:
            self._window = self._table = None
            table = self._seek(window)
            if table is None:
                self.close()
                self._tables = self._flow(self._windows(window), Reader(self._folder, self._shuffle, self._share, self._s3))
                table = self._seek(window)
            if table is None:
                raise ContractError(f"window {window[1]} of epoch {window[0]} did not come")
            self._window, self._table = window, table
        return self._table

    def _seek(self, window: Window) -> pa.Table | None:
        """Reads the open stream on to a window; None where it is past it or ends before."""
        for table in self._tables or ():
            if len(table) and (at := (table["epoch"][0].as_py(), table["window"][0].as_py())) >= window:
                return table if at == window else None
        return None

    def _windows(self, start: Window) -> Iterator[Window]:
        epoch, window = start
        while True:
            yield from ((epoch, number) for number in range(window, self._shuffle.epoch(epoch).windows))
            epoch, window = epoch + 1, 0
