"""Markers of tries, which tell a record that kills its process from bad luck.

Before a stage works on a shard it leaves a marker, which stays until the shard is published. When a driver, a node or a process
dies without saying why, its markers still count. They blame no record.
"""

import json
import socket
from collections.abc import Container
from itertools import count

from engine.errors import RetryableError
from engine.pipeline.events import now
from engine.pipeline.layout import Layout, shard_of
from engine.storage import Storage

READ, MODEL = "read", "model"
ISOLATE_FROM = 3


def isolated(number: int) -> bool:
    """Whether the try with this number runs in a child process."""
    return number >= ISOLATE_FROM


def begin(storage: Storage, layout: Layout, shard: str, stage: str, driver: str, limit: int) -> int:
    """Leaves the marker of a try and returns its number, from 1.

    Raises:
        RetryableError: this driver has tried `limit` times already.
    """
    data = json.dumps({"driver": driver, "host": socket.gethostname(), "at": now()}).encode()
    # Nearly every try is the first one, and then no other marker needs to be read.
    if storage.create(layout.attempt(shard, stage, 1), data):
        return 1
    number = next(n for n in count(1) if storage.stat(layout.attempt(shard, stage, n)) is None)
    tries = sum(_driver(storage.read(layout.attempt(shard, stage, n))) == driver for n in range(1, number))
    if tries >= limit:
        raise RetryableError(
            f"shard {shard} was lost {tries} times; look for lost nodes or too little memory, then run the same command again"
        )
    while not storage.create(layout.attempt(shard, stage, number), data):
        number += 1
    return number


def reached(storage: Storage, layout: Layout, stage: str, shards: Container[str], driver: str) -> bool:
    """Whether this driver's work on any of these shards has reached a stage."""
    paths = [entry.path for entry in storage.list(layout.attempts)]
    markers = [path for path in paths if f".{stage}-" in path and shard_of(path) in shards]
    return any(_driver(storage.read(path)) == driver for path in markers)


def _driver(data: bytes | None) -> str | None:
    try:
        return json.loads(data or b"{}").get("driver")
    except ValueError:
        return None
