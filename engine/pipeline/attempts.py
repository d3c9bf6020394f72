"""Markers of tries: what tells a record that kills its process from bad luck.

Before a stage works on a shard it leaves a marker that nobody removes until the shard is published. A driver, a node or a
process may die without saying why; the markers that they leave are counted, and they accuse no record.
"""

import json
import socket
from collections.abc import Container
from datetime import UTC, datetime

from engine.errors import RetryableError
from engine.pipeline.layout import Layout, shard_of
from engine.storage import Storage

READ, MODEL = "read", "model"
ISOLATE_FROM = 3


def isolated(number: int) -> bool:
    """Whether a try with this number belongs in a child process."""
    return number >= ISOLATE_FROM


def begin(storage: Storage, layout: Layout, shard: str, stage: str, driver: str, limit: int) -> int:
    """Leaves the marker of a try and returns its number, from 1.

    Raises:
        RetryableError: this driver has tried `limit` times already.
    """
    marker = {"driver": driver, "host": socket.gethostname(), "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    data = json.dumps(marker).encode()
    # Nearly every try is the first one, and then nothing else needs to be looked at.
    if storage.create(layout.attempt(shard, stage, 1), data):
        return 1
    number = _count(storage, layout, shard, stage) + 1
    mine = sum(_driver(storage.read(layout.attempt(shard, stage, n))) == driver for n in range(1, number))
    if mine >= limit:
        raise RetryableError(
            f"shard {shard} was lost {mine} times; look for lost nodes or too little memory, then run the same command again"
        )
    while not storage.create(layout.attempt(shard, stage, number), data):
        number += 1
    return number


def reached(storage: Storage, layout: Layout, stage: str, shards: Container[str], driver: str) -> bool:
    """Whether this driver's work on any of these shards has come to a stage."""
    markers = [each.path for each in storage.list(layout.attempts) if f".{stage}-" in each.path and shard_of(each.path) in shards]
    return any(_driver(storage.read(path)) == driver for path in markers)


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
