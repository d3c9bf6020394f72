"""Side tables: facts about a whole corpus that a system needs, such as counts of its tokens or scores of its rationales.

A system provides a map and an associative reduce in plain Python. Each part is a task, in Ray where it runs, else in this
process. Its result is a file, and a receipt, created only if absent, says which file counts. So after a kill the same call goes
on with the missing parts, and two drivers on one folder use each other's parts.

    <folder>/_<name>/settings.json               what the table is computed from
    <folder>/_<name>/parts/<part>-<try>.parquet  the result of the map for a part; removed, with the receipts, after the reduce
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

# Parts that are in memory together, to be reduced.
_TOGETHER = 16
_KIND = Kind("side table", "holds a side table with other settings ({changes}); choose a new folder")


def make(table: SideTable, settings: Mapping[str, Any], folder: str, say: Callable[[str], None]) -> str:
    """Computes the table, or what is missing of it; returns the path of its file.

    Args:
        settings: plain values; all that decides a value in the table must be among them. Those below `runtime` decide none: they
            say where files are and what the work runs on.
        folder: local or on S3; with Ray one that all its nodes reach.

    Raises:
        ConfigError: the folder holds such a table with other settings.
        EngineError: what the map or the reduce raised; of a bug in them only class and place, since it may quote a record.
    """
    folder = full_path(folder)
    storage, work, target = storage_for(folder), f"{folder}/_{table.name}", f"{folder}/{table.name}/part-0.parquet"
    deciding = {name: value for name, value in settings.items() if name != "runtime"}
    definition = {name: getattr(table, name) for name in ("parts", "map", "reduce")}
    claim(work, {"settings": deciding, **definition, "schema": str(table.schema)}, _KIND)
    if storage.stat(target) is None:
        task = _Task(table, settings, work, replace(s3_config(), proven=True))
        _map(task, storage, say)
        _reduce(task, storage, target)
    # Also after a driver was killed here.
    for name in ("parts", "receipts"):
        storage.remove_folder(f"{work}/{name}")
    return target


@dataclass(frozen=True)
class _Task:
    """The work on a part, in any process."""

    table: SideTable
    settings: Mapping[str, Any]
    work: str
    s3: S3Config

    def __call__(self, number: int) -> pa.Table:
        """Computes a part's file and receipt, unless another driver has; returns its number."""
        use_s3(self.s3)
        storage = storage_for(self.work)
        if _file_of(storage, self.work, number) is None:
            _commit(storage, self.work, number, self.call(self.table.map, self.table.parts[number]))
        return pa.table({"part": [number]})

    def call(self, path: str, argument: Any) -> pa.Table:
        """The result of the map or the reduce."""
        try:
            return pkgutil.resolve_name(path)(argument, self.settings).cast(self.table.schema)
        except EngineError:
            raise
        except Exception as error:
            raise ContractError(f"{self.table.name}: {path} raised {type(error).__name__} at {where(error)}") from None


def _map(task: _Task, storage: Storage, say: Callable[[str], None]) -> None:
    """Computes the missing parts."""
    count = len(task.table.parts)
    listed = {entry.path for entry in storage.list(f"{task.work}/receipts")}
    done = {n for n in range(count) if _receipt(task.work, n) in listed and _file_of(storage, task.work, n) is not None}
    todo = [n for n in range(count) if n not in done]
    results = in_order(todo, task, processors()) if ray_runs() and len(todo) > 1 else map(task, todo)
    for number, _ in enumerate(results, start=len(done) + 1):
        say(f"{task.table.name}: {number:,} of {count:,} parts")


def _reduce(task: _Task, storage: Storage, target: str) -> None:
    """Writes the table, unless another driver has."""
    tables, count = [], len(task.table.parts)
    try:
        for number in range(1, count + 1):
            tables.append(_read(storage, task.work, number - 1))
            if number % _TOGETHER == 0 or number == count:
                tables = [task.call(task.table.reduce, tables)]
    except FileNotFoundError:
        # A driver that has written the table removes the parts.
        if storage.stat(target) is None:
            raise
        return
    storage.create(target, _bytes(tables[0] if tables else task.table.schema.empty_table()))


def _commit(storage: Storage, work: str, number: int, table: pa.Table) -> None:
    """Writes a part's file and the receipt that names it; if another receipt was there first, the file is removed again."""
    data, name = _bytes(table), f"{number:05d}-{uuid.uuid4().hex[:12]}.parquet"
    storage.create(f"{work}/parts/{name}", data)
    receipt = json.dumps({"part": number, "file": name, "size": len(data), "rows": len(table)}).encode()
    while not storage.create(_receipt(work, number), receipt):
        if _file_of(storage, work, number) is not None:
            storage.remove(f"{work}/parts/{name}")
            return
        # The receipt is damaged, or its file was lost.
        storage.remove(_receipt(work, number))


def _file_of(storage: Storage, work: str, number: int) -> str | None:
    """The file that counts for a part, if it exists in its full size."""
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
