"""Shards become the tables that people read.

The rows of all shards with a receipt are written in plan order into a few files under `_publish/`, then a manifest that names
them is created, then they get their final names. A driver that dies in between leaves either nothing that counts, or a manifest
from which the next one finishes. Of two drivers one creates the manifest, and the other accepts it.
"""

import hashlib
import json
import posixpath
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ContractError
from engine.models.rows import add, as_duplicates, tally
from engine.pipeline import published
from engine.pipeline.ahead import ahead
from engine.pipeline.commit import Receipt, receipts
from engine.pipeline.duplicates import IDS, Duplicate, later
from engine.pipeline.events import event, now
from engine.pipeline.layout import Layout
from engine.pipeline.plan import Plan
from engine.pipeline.published import Manifest
from engine.records import check
from engine.storage import Storage

ROW_GROUP_ROWS = 122_880
ROW_GROUP_BYTES = 128 * 2**20
FILE_ROWS = 1_000_000
FILE_BYTES = 256 * 2**20


def publish(
    storage: Storage,
    layout: Layout,
    run_id: str,
    table: str,
    schema: pa.Schema,
    planned: Plan,
    memory: int,
    read: Mapping[str, Receipt] | None = None,
) -> list[Manifest]:
    """Publishes every shard of the plan with a receipt that no manifest names yet; returns all manifests.

    Args:
        memory: bytes that the search for duplicates may use.
        read: receipts that the caller has already read.
    Raises:
        ContractError: rows and receipts do not add up.
        RetryableError: no space left.
    """
    while True:
        manifests = published.manifests(storage, layout)
        for manifest in manifests:
            published.settle(storage, layout, manifest)
        done = published.used_receipts(storage, layout, manifests)
        received = receipts(storage, layout, read)
        waiting = [received[shard.name] for shard in planned.shards if shard.name in received and shard.name not in done]
        if not waiting and manifests:
            published.clean(storage, layout, done, len(manifests))
            return manifests
        generation = len(manifests) + 1
        stage = f"{generation:04d}-{uuid.uuid4().hex[:8]}"
        manifest = {"generation": generation, "run_id": run_id, "table": table, "stage": stage}
        failure: Exception | None = None
        try:
            manifest |= _build(storage, layout, manifests, waiting, stage, schema, memory)
            storage.create(layout.manifest(generation), (json.dumps(manifest, indent=1) + "\n").encode())
        except Exception as error:
            # Another driver that publishes the same shards may remove them while this one reads them.
            failure = error
        # Only the manifest that is stored counts. Creating it may succeed and raise all the same, or report its own success as
        # another driver's, and the files that a manifest names must stay.
        winner = published.stage_of(storage, layout, generation)
        if winner == stage:
            event("published", run_id=run_id, generation=generation, rows=manifest["rows"], files=len(manifest["files"]))
            continue
        storage.remove_folder(posixpath.join(layout.staging, stage))
        if winner is None and failure is not None:
            raise failure


def _build(
    storage: Storage,
    layout: Layout,
    manifests: Sequence[Manifest],
    waiting: Sequence[Receipt],
    stage: str,
    schema: pa.Schema,
    memory: int,
) -> dict[str, Any]:
    """Writes the tables and the receipts of a generation to its staging folder; returns what its manifest says of them."""
    folder, generation = posixpath.join(layout.staging, stage), len(manifests) + 1
    counts = {"rows": 0, "decisions": {}, "failures": {}, "reasons": {}, "entities": {}}
    old = _published_ids(storage, layout, manifests)
    with ExitStack() as stack:
        scratch = stack.enter_context(storage.scratch(posixpath.join(folder, "scratch")))
        duplicates = stack.enter_context(later(_ids(storage, layout, waiting), old, scratch, memory))
        writer = stack.enter_context(_Writer(storage, folder, generation, schema))
        for part in _rows(storage, layout, waiting, schema, duplicates):
            counts = add(counts, tally(part))
            writer.write(part)
        if generation == 1 and not counts["rows"]:
            writer.write(schema.empty_table())
    if counts["rows"] != sum(receipt["rows"] for receipt in waiting):
        raise ContractError(f"publishing {counts['rows']} rows of {sum(receipt['rows'] for receipt in waiting)} received")
    lines = (json.dumps(receipt, sort_keys=True) + "\n" for receipt in waiting)
    storage.create(layout.staged_receipts(stage), "".join(lines).encode())
    return {"files": writer.files, **counts, "shards": len(waiting), "at": now()}


def _rows(
    storage: Storage, layout: Layout, waiting: Sequence[Receipt], schema: pa.Schema, duplicates: Iterator[Duplicate]
) -> Iterator[pa.Table]:
    """Each shard's rows in plan order; later rows of an id have become failures."""
    duplicate = next(duplicates, None)
    tables = ahead(lambda receipt: _read(storage, layout, receipt), waiting)
    for number, (receipt, table) in enumerate(zip(waiting, tables, strict=True)):
        new_ids: dict[int, str] = {}
        while duplicate is not None and duplicate.shard == number:
            new_ids[duplicate.row] = duplicate.new_id
            duplicate = next(duplicates, None)
        if table is None:
            continue
        if table.num_rows != receipt["rows"]:
            raise ContractError(f"shard {receipt['shard']} has {table.num_rows} rows, its receipt says {receipt['rows']}")
        check(table, schema)
        yield as_duplicates(table, new_ids) if new_ids else table


def _read(storage: Storage, layout: Layout, receipt: Receipt, columns: list[str] | None = None) -> pa.Table | None:
    """The rows of a shard; None for one without records."""
    if receipt["file"] is None:
        return None
    with storage.open(posixpath.join(layout.shards, receipt["file"])) as file:
        return pq.ParquetFile(file).read(columns=columns)


def _ids(storage: Storage, layout: Layout, waiting: Sequence[Receipt]) -> Iterator[pa.RecordBatch]:
    tables = ahead(lambda receipt: _read(storage, layout, receipt, ["record_id", "source", "position"]), waiting)
    for number, table in enumerate(tables):
        if table is None:
            continue
        rows = table.num_rows
        columns = [pa.repeat(pa.scalar(number, pa.int32()), rows), pa.array(range(rows), pa.int32())]
        columns += [table[name].combine_chunks() for name in IDS.names[2:]]
        yield from pa.table(columns, schema=IDS).combine_chunks().to_batches()


def _published_ids(storage: Storage, layout: Layout, manifests: Sequence[Manifest]) -> Iterator[pa.RecordBatch]:
    for manifest in manifests:
        for file in manifest["files"]:
            with storage.open(posixpath.join(layout.table(manifest["table"]), file["name"])) as stream:
                yield from pq.ParquetFile(stream).iter_batches(columns=["record_id"])


class _Writer:
    """Gathers rows into row groups and files of the sizes that suit readers."""

    def __init__(self, storage: Storage, folder: str, generation: int, schema: pa.Schema) -> None:
        self.files: list[dict] = []
        self._storage, self._folder, self._generation, self._schema = storage, folder, generation, schema
        self._waiting: list[pa.Table] = []
        self._open: ExitStack | None = None
        self._rows = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._flush()
            self._close()
        elif self._open is not None:
            # The storage's writer drops its file only if the error passes through it.
            self._open.__exit__(kind, error, trace)

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        if (
            sum(t.num_rows for t in self._waiting) >= ROW_GROUP_ROWS
            or sum(t.get_total_buffer_size() for t in self._waiting) >= ROW_GROUP_BYTES
        ):
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._open is None:
            self._path = posixpath.join(self._folder, f"{self._generation:04d}-{len(self.files):04d}.parquet")
            self._open = ExitStack()
            self._file = _Hashed(self._open.enter_context(self._storage.writer(self._path)))
            self._parquet = self._open.enter_context(pq.ParquetWriter(self._file, self._schema, compression="zstd"))
            self._rows = 0
        self._parquet.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._rows += table.num_rows
        if self._rows >= FILE_ROWS or self._file.tell() >= FILE_BYTES:
            self._close()

    def _close(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self._open = None
        name, written = posixpath.basename(self._path), self._file
        self.files.append({"name": name, "rows": self._rows, "bytes": written.size, "sha256": written.digest.hexdigest()})


class _Hashed:
    """A file that is written front to back, with the digest of its content: reading it back from a store would take long."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += memoryview(data).nbytes
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()
