"""Markers of tries: what tells a record that kills its process from bad luck.

Before a stage works on a shard it leaves a marker that nobody removes until the shard is published. A driver, a node or a
process may die without saying why; the markers that they leave are counted, and they accuse no record.
"""

import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.errors import RetryableError
from engine.pipeline.layout import Layout
from engine.storage import Storage

READ, MODEL = "read", "model"
ISOLATE_FROM = 3


@dataclass(frozen=True)
class Tries:
    """Tries of a shard before this one."""

    read: int
    model: int

    @property
    def isolate(self) -> bool:
        """Whether the next try belongs in a child process."""
        return max(self.read, self.model) >= ISOLATE_FROM - 1


def count(storage: Storage, layout: Layout, shard: str) -> Tries:
    """How often each stage has begun this shard."""
    return Tries(_count(storage, layout, shard, READ), _count(storage, layout, shard, MODEL))


def begin(storage: Storage, layout: Layout, shard: str, stage: str, driver: str, limit: int) -> int:
    """Leaves the marker of a try and returns its number, from 1.

    Raises:
        RetryableError: this driver has tried `limit` times already.
    """
    number = _count(storage, layout, shard, stage) + 1
    mine = sum(_driver(storage.read(layout.attempt(shard, stage, n))) == driver for n in range(1, number))
    if mine >= limit:
        raise RetryableError(
            f"shard {shard} was lost {mine} times; look for lost nodes or too little memory, then run the same command again"
        )
    marker = {"driver": driver, "host": socket.gethostname(), "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    while not storage.create(layout.attempt(shard, stage, number), json.dumps(marker).encode()):
        number += 1
    return number


def _count(storage: Storage, layout: Layout, shard: str, stage: str) -> int:
    number = 0
    while storage.stat(layout.attempt(shard, stage, number + 1)) is not None:
        number += 1
    return number


def _driver(data: bytes | None) -> str | None:
    try:
        return json.loads(data or b"{}").get("driver")
    except ValueError:
        return None
