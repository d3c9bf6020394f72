"""A shard's rows become a file, and a receipt says which file counts.

Of many tries at one shard, retried tasks and other drivers among them, the one whose receipt was created first counts. The
others remove their own file and take the winner's receipt.
"""

import hashlib
import io
import json
import posixpath
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.models.rows import tally
from engine.pipeline.ahead import ahead
from engine.pipeline.layout import Layout, shard_of
from engine.storage import Entry, Storage

_WANTED = {"shard": str, "rows": int, "decisions": dict, "failures": dict, "reasons": dict, "bytes": int}
Receipt = dict[str, Any]


def commit(storage: Storage, layout: Layout, shard: str, attempt: int, table: pa.Table, **facts: Any) -> Receipt:
    """Writes a try's rows and its receipt; returns the receipt that counts.

    `facts` go into the receipt as they are (seconds, attempts, bytes of text).
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    path = layout.shard(shard, attempt)
    storage.create(path, data)
    receipt = {
        "shard": shard,
        "attempt": attempt,
        "file": path.rsplit("/", 1)[-1],
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **tally(table),
        "host": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **facts,
    }
    winner = settle(storage, layout, receipt)
    if winner.get("file") != receipt["file"]:
        storage.remove(path)
    return winner


def commit_empty(storage: Storage, layout: Layout, shard: str) -> Receipt:
    """The receipt of a shard that is known to hold no record."""
    empty = {"rows": 0, "decisions": {}, "failures": {}, "reasons": {}, "bytes": 0, "size": 0, "file": None, "attempt": 0}
    return settle(storage, layout, {"shard": shard, **empty, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})


def settle(storage: Storage, layout: Layout, receipt: Receipt) -> Receipt:
    """Creates the receipt, or returns the one that was there first; an unreadable one gives way."""
    path = layout.receipt(receipt["shard"])
    data = (json.dumps(receipt, sort_keys=True) + "\n").encode()
    while not storage.create(path, data):
        winner = parse(storage.read(path))
        if winner is not None and winner["shard"] == receipt["shard"] and intact(storage, layout, winner):
            return winner
        storage.remove(path)
    return receipt


def parse(data: bytes | None) -> Receipt | None:
    """A receipt from its bytes; None for anything that is not one."""
    try:
        found = json.loads(data or b"")
    except ValueError:
        return None
    if not isinstance(found, dict) or any(not isinstance(found.get(key), kind) for key, kind in _WANTED.items()):
        return None
    if sum(found["decisions"].values()) != found["rows"]:
        return None
    return found


def intact(storage: Storage, layout: Layout, receipt: Receipt) -> bool:
    """Whether the file that a receipt names is there in its full size."""
    if receipt.get("file") is None:
        return receipt["rows"] == 0
    entry = storage.stat(f"{layout.shards}/{receipt['file']}")
    return entry is not None and entry.size == receipt.get("size")


def receipts(storage: Storage, layout: Layout, known: Mapping[str, Receipt] | None = None) -> dict[str, Receipt]:
    """Shard -> receipt, of those that are readable and whose file is there.

    Args:
        known: receipts that were read before; they are not read again. One is only ever replaced where its file was lost.
    """
    found = {}
    entries = list(storage.list(layout.receipts))
    sizes = {posixpath.basename(entry.path): entry.size for entry in storage.list(layout.shards)} if entries else {}

    def look(entry: Entry) -> Receipt | None:
        receipt = (known or {}).get(shard_of(entry.path))
        return receipt if receipt and _held(receipt, sizes) else parse(storage.read(entry.path))

    for entry, receipt in zip(entries, ahead(look, entries), strict=True):
        if receipt is not None and layout.receipt(receipt["shard"]) == entry.path and _held(receipt, sizes):
            found[receipt["shard"]] = receipt
    return found


def _held(receipt: Receipt, sizes: Mapping[str, int]) -> bool:
    """`intact`, by a listing of the shards that is younger than that of the receipts."""
    if receipt.get("file") is None:
        return receipt["rows"] == 0
    return sizes.get(receipt["file"]) == receipt.get("size")
