"""The plan: which files the input has, and how they are cut into shards. Stored once, read back ever after.

A part is a JSONL file that is created and never changed: a header, its files as the listing saw them, its shards in input
order. New files in the input become a new part, so whatever was done stays done.
"""

import base64
import json
import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine import sources
from engine.errors import ConfigError, InputChanged
from engine.pipeline.config import RunConfig
from engine.pipeline.events import event
from engine.pipeline.layout import Layout, shard_name
from engine.sources import Shard
from engine.storage import Entry, Storage, inside, storage_for

MAX_SHARDS = 20_000
SHARDS_PER_ACTOR = 8
_LEAST, _USUAL = 64 * 1024, 1024 * 1024


@dataclass(frozen=True)
class Planned:
    """One shard of the plan. `rows` is None where the format does not tell before reading."""

    name: str
    shard: Shard

    @property
    def rows(self) -> int | None:
        return self.shard.rows

    @property
    def bytes(self) -> int:
        return self.shard.bytes


@dataclass(frozen=True)
class Plan:
    """All parts in order; `keep` are the columns that the user passes through."""

    files: tuple[Entry, ...]
    shards: tuple[Planned, ...]
    keep: pa.Schema
    parts: int

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def rows(self) -> int | None:
        rows = [shard.rows for shard in self.shards]
        return None if None in rows else sum(rows)


@dataclass(frozen=True)
class Draft:
    """The stored plan and, where there are new files, the part that they would add: its bytes, and the kept columns.

    Nothing of it is written, so that an input that is refused leaves no trace.
    """

    plan: Plan
    keep: pa.Schema
    part: bytes | None = None


def draft(config: RunConfig, storage: Storage, layout: Layout) -> Draft:
    """Reads the plan, and checks and cuts what is new in the input.

    Raises:
        InputChanged: a planned file is gone or is another one now.
        ConfigError: there is no input, or a column that is asked for is missing or of a type that the run cannot take.
    """
    _check_apart(config)
    reader = storage_for(config.input.path)
    found = {entry.path: entry for entry in sources.list_files(config.input, reader)}
    plan = read(storage, layout)
    _compare(plan.files, found)
    known = {entry.path for entry in plan.files}
    new = [entry for path, entry in found.items() if path not in known]
    if not new:
        return Draft(plan, plan.keep)
    keep = pa.schema(sources.keep_fields(config.input, reader, new, list(plan.keep) if plan.parts else None))
    shards = sources.cut(config.input, reader, new, shard_bytes(config, sum(entry.size for entry in new)))
    return Draft(plan, keep, b"".join(_lines(plan.parts, keep, new, shards)))


def store(config: RunConfig, storage: Storage, layout: Layout, drafted: Draft) -> Plan:
    """The whole plan, with the drafted part stored, or another driver's that was faster and what that one lacks."""
    while drafted.part is not None:
        if storage.create(layout.part(drafted.plan.parts), drafted.part):
            plan = read(storage, layout)
            event("planned", part=drafted.plan.parts, files=len(plan.files) - len(drafted.plan.files))
            return plan
        drafted = draft(config, storage, layout)
    return drafted.plan


def shard_bytes(config: RunConfig, total: int) -> int:
    """Bytes of text a shard: as asked or about 1 MiB, less to give every actor its share, more to keep the plan small."""
    size = config.shard_bytes
    if size is None:
        share = math.ceil(total / (SHARDS_PER_ACTOR * config.cluster.actors))
        size = min(_USUAL, max(_LEAST, share))
    return max(size, math.ceil(total / MAX_SHARDS))


def _check_apart(config: RunConfig) -> None:
    """Tables within the input folder would be the next start's input."""
    base = sources.input_base(config.input)
    if inside(config.output, base) and base == sources.input_path(config.input):
        raise ConfigError(f"output.path: {config.output} lies inside the input folder; choose a folder beside it")


def read(storage: Storage, layout: Layout) -> Plan:
    """The stored plan, without parts where there is none yet."""
    files: list[Entry] = []
    shards: list[Planned] = []
    keep = pa.schema([])
    number = 0
    while (data := storage.read(layout.part(number))) is not None:
        try:
            for line in data.splitlines():
                item = json.loads(line)
                if "keep" in item:
                    keep = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(item["keep"])))
                elif "file" in item:
                    files.append(Entry(*item["file"]))
                else:
                    shards.append(Planned(item["name"], sources.from_json(item["shard"])))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{layout.part(number)} is damaged; restore it, or name a new output folder") from None
        number += 1
    return Plan(tuple(files), tuple(shards), keep, number)


def _lines(part: int, keep: pa.Schema, files: Sequence[Entry], shards: Iterator[Shard]) -> Iterator[bytes]:
    yield _line({"keep": base64.b64encode(keep.serialize().to_pybytes()).decode()})
    for entry in files:
        yield _line({"file": [entry.path, entry.size, entry.version]})
    for number, shard in enumerate(shards):
        yield _line({"name": shard_name(part, number), "shard": sources.to_json(shard)})


def _line(item: dict) -> bytes:
    # Surrogates of undecodable file names survive as escapes, which UTF-8 text would refuse.
    return (json.dumps(item, ensure_ascii=True) + "\n").encode()


def _compare(planned: Sequence[Entry], found: dict[str, Entry]) -> None:
    changed = [entry for entry in planned if found.get(entry.path) != entry]
    if changed:
        what = "missing from the input" if changed[0].path not in found else "changed"
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        name = posixpath.basename(changed[0].path)
        raise InputChanged(
            f"{name}{more}: {what} since the run was planned; restore it or name a new output folder ({changed[0].path})"
        )
