"""Examples of a training: tokens and labels as numbers, never text, and where a learner finds them.

A system says how its texts become such tables (`Preparation`); `engine.training` writes them into a folder once, before anything
is learned, and hands each worker what is its own. Whoever works between two phases reads the same files, shard by shard.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage import storage_for

INDEX = "index.json"
# Columns that any system's examples have.
COMMON = (pa.field("record_id", pa.string()), pa.field("split", pa.string()), pa.field("sample", pa.bool_()))


@dataclass(frozen=True)
class Preparation:
    """How the texts of train and valid become examples.

    Each of `pieces` is made a table of `schema`, which begins with `COMMON`, by `work`: a picklable call that may be sent
    anywhere and sees to its own reading. `further` are tables beside them. With `held` examples of train are shuffled by their
    ids into shards, of which no more than that many are in memory at a time; without it all stay in their order and are read
    whole. `facts` is what else a worker must know, and `given` tells this input from another, both plain values.
    """

    pieces: Sequence[Any]
    work: Callable[[Any], pa.Table]
    schema: pa.Schema
    given: Any
    facts: Mapping[str, Any]
    further: Iterable[pa.Table] = ()
    held: int = 0


class Source(Protocol):
    """Where a learner's examples are, numbered from 0; they need not be held whole. What examples are is the system's own."""

    @property
    def mixed(self) -> bool:
        """Whether there are samples beside the reports."""

    def order(self, epoch: int, ratio: float, seed: int) -> Sequence[int]:
        """The numbers of an epoch, in order: every report of train once, and `ratio` samples for each report, drawn anew;
        negative: each sample once."""

    def hold(self, members: Sequence[int], epoch: int) -> tuple[Any, list[int]]:
        """Some examples of an epoch, and which of those held they are. Cheap where they are asked for in the epoch's order."""

    def held_back(self) -> Iterator[tuple[Any, list[int]]]:
        """The reports of valid, some at a time."""

    def close(self) -> None:
        """Ends what is read ahead."""


class Stored(Protocol):
    """The examples of a training as one worker sees them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `Preparation`."""

    def whole(self) -> pa.Table:
        """All of them, in the order of the texts."""

    def stream(self, decode: Callable[[pa.Table], Any], held: int) -> Source:
        """Those of train window by window, each as `decode` makes it of a table."""


@dataclass(frozen=True)
class Index:
    """How many examples each shard has: in those of train first the reports, then the samples made from them; and what else a
    worker must know (`facts`, plain values). Examples that stay in their order are counted in one shard called `all`."""

    reports: tuple[int, ...]
    samples: tuple[int, ...]
    valid: tuple[int, ...]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Index":
        return cls(*(tuple(found[name]) for name in ("reports", "samples", "valid")), found["facts"])


def read_index(folder: str) -> Index | None:
    """What a folder of examples holds, None where they were not written to their end."""
    data = storage_for(folder).read(f"{folder}/{INDEX}")
    return None if data is None else Index.of(json.loads(data))


def read_shard(folder: str, part: str, number: int = 0) -> pa.Table:
    """A shard's examples, as they were written; those of `train` and `valid` without `split`, those of `all` with it."""
    with storage_for(folder).open(f"{folder}/{part}-{number:05d}.parquet") as stream:
        return pq.read_table(stream)
