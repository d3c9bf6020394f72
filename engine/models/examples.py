"""Examples of a training: tokens and labels as numbers, never text, and how a learner reads them.

A system says how its texts become such tables (`Preparation`); `engine.training` writes them into a folder once before the
training and gives each worker its part. Work between two phases reads the same files, shard by shard.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage import storage_for

INDEX = "index.json"
# Columns of every system's examples.
COMMON = (pa.field("record_id", pa.string()), pa.field("split", pa.string()), pa.field("sample", pa.bool_()))


@dataclass(frozen=True)
class Preparation:
    """How the texts of train and valid become examples.

    `work`, a picklable call that reads its own input on any machine, turns each of `pieces` into a table of `schema`, which
    begins with `COMMON`. `further` are more such tables. With `held`, examples of train are shuffled by their ids into shards,
    and at most that many examples are in memory at a time; without it all keep their order and are read whole. `facts` are
    further facts for workers, and `given` identifies the input, both plain values.
    """

    pieces: Sequence[Any]
    work: Callable[[Any], pa.Table]
    schema: pa.Schema
    given: Any
    facts: Mapping[str, Any]
    further: Iterable[pa.Table] = ()
    held: int = 0


class Source(Protocol):
    """A learner's examples, numbered from 0 and not necessarily all in memory. Their form is up to the system."""

    @property
    def mixed(self) -> bool:
        """Whether there are samples beside the reports."""

    def order(self, epoch: int, ratio: float, seed: int) -> Sequence[int]:
        """The numbers of an epoch, in order: every report of train once, and `ratio` samples per report, drawn anew; each sample
        once if `ratio` is negative."""

    def hold(self, members: Sequence[int], epoch: int) -> tuple[Any, list[int]]:
        """The examples in memory, and the places of `members` among them. Cheap in the epoch's order."""

    def held_back(self) -> Iterator[tuple[Any, list[int]]]:
        """The reports of valid, in parts."""

    def close(self) -> None:
        """Stops reading ahead."""


class Stored(Protocol):
    """The examples of a training, as one worker sees them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Preparation`."""

    def whole(self) -> pa.Table:
        """All examples, in the order of the texts."""

    def stream(self, decode: Callable[[pa.Table], Any], held: int) -> Source:
        """The examples in windows, each a table turned into the system's form by `decode`."""


@dataclass(frozen=True)
class Index:
    """The number of examples in each shard: shards of train have first reports, then samples made from them. `facts` are plain
    values for workers. Examples that keep their order are in one shard called `all`."""

    reports: tuple[int, ...]
    samples: tuple[int, ...]
    valid: tuple[int, ...]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Index":
        return cls(*(tuple(values[name]) for name in ("reports", "samples", "valid")), values["facts"])


def read_index(folder: str) -> Index | None:
    """The index of a folder of examples, None if it is incomplete."""
    data = storage_for(folder).read(f"{folder}/{INDEX}")
    return None if data is None else Index.of(json.loads(data))


def read_shard(folder: str, part: str, number: int = 0) -> pa.Table:
    """The examples of a shard; those of `train` and `valid` have no column `split`, those of `all` do."""
    with storage_for(folder).open(f"{folder}/{part}-{number:05d}.parquet") as stream:
        return pq.read_table(stream)
