"""A side table: what a system must know of a whole corpus, such as counts of its tokens or scores of its rationales.

A system gives a map and an associative reduce in plain Python. Each part is a task, in Ray where it runs, else in this process;
its answer is a file, and a receipt, created only if absent, says which file counts. So the same call after a kill goes on with
the parts that are missing, and of two drivers on one folder each takes what the other has done.

    <folder>/_<name>/settings.json               what the table is made with
    <folder>/_<name>/parts/<part>-<try>.parquet  what the map made of a part; these and the receipts go when the table is there
    <folder>/_<name>/receipts/<part>.json
    <folder>/<name>/part-0.parquet               the table
"""

import io
import json
import pkgutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ContractError, EngineError, where
from engine.machine import processors
from engine.models.base import SideTable
from engine.pipeline.flow import in_order, ray_runs
from engine.storage import S3Config, Storage, full_path, s3_config, storage_for, use_s3
from engine.storage.claim import Kind, claim

# Parts that are reduced at a time, and so are in memory together.
_TOGETHER = 16
_KIND = Kind("side table", "holds a side table with other settings ({changes}); choose a new folder")


def make(table: SideTable, settings: Mapping[str, Any], folder: str, say: Callable[[str], None]) -> str:
    """Makes the table as far as it is not there; returns the path of its file.

    Args:
        settings: plain values, which every change of a value in the table shows in. Those below `runtime` change none: they say
            where things lie and what the work runs on.
        folder: local or on S3; with Ray one that all its nodes reach.

    Raises:
        ConfigError: the folder holds such a table made with other settings.
        EngineError: what the map or the reduce raised; a bug in them is told by its class and place alone, since it may quote a
            record.
    """
    folder = full_path(folder)
    storage, work, target = storage_for(folder), f"{folder}/_{table.name}", f"{folder}/{table.name}/part-0.parquet"
    deciding = {name: value for name, value in settings.items() if name != "runtime"}
    made_with = {"settings": deciding, **{name: getattr(table, name) for name in ("parts", "map", "reduce")}}
    claim(work, {**made_with, "schema": str(table.schema)}, _KIND)
    if storage.stat(target) is None:
        task = _Task(table, settings, work, replace(s3_config(), proven=True))
        _map(task, storage, say)
        _reduce(task, storage, target)
    # Also what a driver left that was killed here.
    for done in ("parts", "receipts"):
        storage.remove_folder(f"{work}/{done}")
    return target


@dataclass(frozen=True)
class _Task:
    """The work on a part, wherever it is sent."""

    table: SideTable
    settings: Mapping[str, Any]
    work: str
    s3: S3Config

    def __call__(self, number: int) -> pa.Table:
        """Makes a part's file and receipt, unless another driver has; returns its number."""
        use_s3(self.s3)
        storage = storage_for(self.work)
        if _file_of(storage, self.work, number) is None:
            _commit(storage, self.work, number, self.asked(self.table.map, self.table.parts[number]))
        return pa.table({"part": [number]})

    def asked(self, path: str, given: Any) -> pa.Table:
        """What the map or the reduce makes of what it is given."""
        try:
            return pkgutil.resolve_name(path)(given, self.settings).cast(self.table.schema)
        except EngineError:
            raise
        except Exception as error:
            raise ContractError(f"{self.table.name}: {path} raised {type(error).__name__} at {where(error)}") from None


def _map(task: _Task, storage: Storage, say: Callable[[str], None]) -> None:
    count = len(task.table.parts)
    there = {entry.path for entry in storage.list(f"{task.work}/receipts")}
    done = [n for n in range(count) if _receipt(task.work, n) in there and _file_of(storage, task.work, n) is not None]
    todo = sorted(set(range(count)) - set(done))
    made = in_order(todo, task, processors()) if ray_runs() and len(todo) > 1 else map(task, todo)
    for place, _ in enumerate(made, start=len(done) + 1):
        say(f"{task.table.name}: {place:,} of {count:,} parts")


def _reduce(task: _Task, storage: Storage, target: str) -> None:
    """Writes the table, unless another driver has."""
    found = None
    try:
        count = len(task.table.parts)
        for start in range(0, count, _TOGETHER):
            tables = [_read(storage, task.work, number) for number in range(start, min(start + _TOGETHER, count))]
            found = task.asked(task.table.reduce, tables if found is None else [found, *tables])
    except FileNotFoundError:
        # Whoever has the table first removes the parts.
        if storage.stat(target) is None:
            raise
        return
    storage.create(target, _bytes(task.table.schema.empty_table() if found is None else found))


def _commit(storage: Storage, work: str, number: int, table: pa.Table) -> None:
    """Writes a part's file and the receipt that names it; if another receipt was there first, the file goes again."""
    data, name = _bytes(table), f"{number:05d}-{uuid.uuid4().hex[:12]}.parquet"
    storage.create(f"{work}/parts/{name}", data)
    receipt = json.dumps({"part": number, "file": name, "size": len(data), "rows": len(table)}).encode()
    while not storage.create(_receipt(work, number), receipt):
        if _file_of(storage, work, number) is not None:
            storage.remove(f"{work}/parts/{name}")
            return
        # It is damaged, or its file was lost.
        storage.remove(_receipt(work, number))


def _file_of(storage: Storage, work: str, number: int) -> str | None:
    """The file that counts for a part, if it is there in its full size."""
    try:
        receipt = json.loads(storage.read(_receipt(work, number)) or b"")
        file, size = f"{work}/parts/{receipt['file']}", receipt["size"]
    except (ValueError, TypeError, KeyError):
        return None
    entry = storage.stat(file)
    return file if entry is not None and entry.size == size else None


def _read(storage: Storage, work: str, number: int) -> pa.Table:
    file = _file_of(storage, work, number)
    if file is None:
        raise FileNotFoundError(f"part {number} of {work}")
    with storage.open(file) as stream:
        return pq.read_table(stream)


def _receipt(work: str, number: int) -> str:
    return f"{work}/receipts/{number:05d}.json"


def _bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
