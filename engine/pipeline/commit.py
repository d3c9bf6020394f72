"""A shard's rows become a file, and a receipt says which file counts.

Of several tries at one shard, by retried tasks or other drivers, the one whose receipt was created first counts. The others
remove their own file and take the winner's receipt.
"""

import hashlib
import io
import json
import posixpath
import socket
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.models.rows import tally
from engine.pipeline.ahead import ahead
from engine.pipeline.events import now
from engine.pipeline.layout import Layout, shard_of
from engine.storage import Entry, Storage

_FIELDS = {"shard": str, "rows": int, "decisions": dict, "failures": dict, "reasons": dict, "bytes": int}
Receipt = dict[str, Any]


def commit(storage: Storage, layout: Layout, shard: str, attempt: int, table: pa.Table, **facts: Any) -> Receipt:
    """Writes a try's rows and its receipt; returns the receipt that counts.

    `facts` are further entries of the receipt: seconds, attempts, bytes of text.
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
        "at": now(),
        **facts,
    }
    winner = settle(storage, layout, receipt)
    if winner.get("file") != receipt["file"]:
        storage.remove(path)
    return winner


def commit_empty(storage: Storage, layout: Layout, shard: str) -> Receipt:
    """The receipt of a shard that is known to hold no record."""
    empty = {"rows": 0, "decisions": {}, "failures": {}, "reasons": {}, "bytes": 0, "size": 0, "file": None, "attempt": 0}
    return settle(storage, layout, {"shard": shard, **empty, "at": now()})


def settle(storage: Storage, layout: Layout, receipt: Receipt) -> Receipt:
    """Creates the receipt, or returns the one that was there first; an unreadable one is replaced."""
    path = layout.receipt(receipt["shard"])
    data = (json.dumps(receipt, sort_keys=True) + "\n").encode()
    while not storage.create(path, data):
        winner = parse(storage.read(path))
        if winner is not None and winner["shard"] == receipt["shard"] and intact(storage, layout, winner):
            return winner
        storage.remove(path)
    return receipt


def parse(data: bytes | None) -> Receipt | None:
    """A receipt from its bytes; None for anything else."""
    try:
        receipt = json.loads(data or b"")
    except ValueError:
        return None
    if not isinstance(receipt, dict) or any(not isinstance(receipt.get(key), kind) for key, kind in _FIELDS.items()):
        return None
    return receipt if sum(receipt["decisions"].values()) == receipt["rows"] else None


def intact(storage: Storage, layout: Layout, receipt: Receipt) -> bool:
    """Whether the file that a receipt names exists in its full size."""
    entry = None if receipt.get("file") is None else storage.stat(f"{layout.shards}/{receipt['file']}")
    return _matches(receipt, {} if entry is None else {receipt["file"]: entry.size})


def receipts(storage: Storage, layout: Layout, known: Mapping[str, Receipt] | None = None) -> dict[str, Receipt]:
    """Shard -> receipt, of those that are readable and whose file exists.

    Args:
        known: receipts that were read before; they are not read again, since one is only replaced after its file was lost.
    """
    result = {}
    entries = list(storage.list(layout.receipts))
    sizes = {posixpath.basename(entry.path): entry.size for entry in storage.list(layout.shards)} if entries else {}

    def look(entry: Entry) -> Receipt | None:
        receipt = (known or {}).get(shard_of(entry.path))
        return receipt if receipt and _matches(receipt, sizes) else parse(storage.read(entry.path))

    for entry, receipt in zip(entries, ahead(look, entries), strict=True):
        if receipt is not None and layout.receipt(receipt["shard"]) == entry.path and _matches(receipt, sizes):
            result[receipt["shard"]] = receipt
    return result


def _matches(receipt: Receipt, sizes: Mapping[str, int]) -> bool:
    """`intact`, by the sizes of the files in `_shards`; their listing must be younger than that of the receipts."""
    if receipt.get("file") is None:
        return receipt["rows"] == 0
    size = sizes.get(receipt["file"])
    return size is not None and size == receipt.get("size")
