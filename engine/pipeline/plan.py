"""The plan: the files of the input, and how they are cut into shards. It is stored once and read back afterwards.

A part is a JSONL file that is created and never changed: a header, its files as they were listed, its shards in input order. New
files in the input become a new part, so finished work stays finished. Files are named relative to the input folder, which is in
the header: the input may be moved, or mounted elsewhere, between two calls.
"""

import base64
import json
import math
import posixpath
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from engine import sources
from engine.errors import ConfigError, InputChanged
from engine.pipeline.config import RunConfig
from engine.pipeline.events import event
from engine.pipeline.layout import Layout, shard_name
from engine.records import IMAGES
from engine.sources import Listing, Shard
from engine.storage import Entry, Storage, inside, storage_for

MAX_SHARDS = 20_000
SHARDS_PER_ACTOR = 8


@dataclass(frozen=True)
class PlannedShard:
    """One shard of the plan. `rows` is None where the format shows the number of rows only after reading."""

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
    """All parts in order. `keep` are the input's columns that go into the result, `bases` the input folder of each part."""

    files: tuple[Entry, ...]
    shards: tuple[PlannedShard, ...]
    keep: pa.Schema
    bases: tuple[str, ...]

    @property
    def parts(self) -> int:
        return len(self.bases)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def rows(self) -> int | None:
        rows = [shard.rows for shard in self.shards]
        return None if None in rows else sum(rows)


@dataclass
class _Part:
    """A stored part, its files named relative to `base`, the input folder at the time."""

    base: str
    keep: pa.Schema
    files: list[Entry] = field(default_factory=list)
    shards: list[PlannedShard] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """The stored plan and, where there are new files, the part that they would add: its bytes, and the kept columns.

    Nothing of it is written yet, so that a refused input leaves no trace. `notes` say what is left out of the input. `place` is
    the folder with the planned files now; None is where each was planned.
    """

    plan: Plan
    keep: pa.Schema
    notes: Sequence[str]
    place: str | None
    part: bytes | None = None


def draft(config: RunConfig, storage: Storage, layout: Layout) -> Draft:
    """Reads the plan, and checks and cuts the new files of the input.

    Raises:
        InputChanged: a planned file is gone or has changed.
        ConfigError: there is no input, or a named column is missing or of a type that the run cannot take.
    """
    base = sources.input_base(config.input)
    reader = storage_for(config.input.path)
    parts = _stored(storage, layout)
    if config.files is None:
        # Tables inside the input folder would be input at the next start.
        if inside(config.output, base) and base == sources.input_path(config.input):
            raise ConfigError(f"output.path: {config.output} lies inside the input folder; choose a folder beside it")
        listing = sources.survey(config.input, reader, {entry.path for place in (base, None) for entry in _files(parts, place)})
    else:
        listing = Listing(list(config.files), [])
    listed = {entry.path: entry for entry in listing.files}
    place = _place(parts, base, listed)
    plan = _placed(parts, place)
    _compare(plan, base, listed)
    planned = {entry.path for entry in plan.files}
    new = [entry for path, entry in listed.items() if path not in planned]
    if not new:
        return Draft(plan, plan.keep, listing.notes, place)
    keep = pa.schema(sources.keep_fields(config.input, reader, new, list(plan.keep) if parts else None))
    shards = cut(config, reader, new, base)
    return Draft(plan, keep, listing.notes, place, b"".join(_lines(plan.parts, keep, base, new, shards)))


def cut(config: RunConfig, reader: Storage, files: Sequence[Entry], base: str) -> list[Shard]:
    """The shards of files. The size of a small file says little about its text, so files are cut again if an actor gets none."""
    size = shard_bytes(config, sum(sources.text_bytes(entry) for entry in files))
    pieces = list(sources.pieces(config.input, reader, files, size, base))
    if config.input.reads == IMAGES:
        # The size of a manifest says nothing about its images.
        size = shard_bytes(config, sum(piece.bytes for piece in pieces))
    shards = list(sources.joined(config.input, pieces, size))
    if config.shard_bytes is None and len(shards) < config.cluster.actors:
        share = max(1, math.ceil(sum(shard.bytes for shard in shards) / config.cluster.actors))
        # A larger share, where a few long records are most of the text, would give even fewer shards.
        if share < size:
            shards = list(sources.cut(config.input, reader, files, share, base))
    return shards


def store(config: RunConfig, storage: Storage, layout: Layout, drafted: Draft) -> Plan:
    """Stores the drafted part, or, where another driver was faster, what that one's part lacks; returns the whole plan."""
    while drafted.part is not None:
        if storage.create(layout.part(drafted.plan.parts), drafted.part):
            plan = _placed(_stored(storage, layout), drafted.place)
            event("planned", part=drafted.plan.parts, files=len(plan.files) - len(drafted.plan.files))
            return plan
        drafted = draft(config, storage, layout)
    return drafted.plan


def shard_bytes(config: RunConfig, total: int) -> int:
    """Bytes of a shard: the set size, or `usual_bytes`, less so that every actor gets work, more to limit the plan."""
    size = config.shard_bytes
    if size is None:
        share = math.ceil(total / (SHARDS_PER_ACTOR * config.cluster.actors))
        size = min(config.usual_bytes, max(config.usual_bytes // 16, share))
    return max(size, math.ceil(total / MAX_SHARDS))


def read(storage: Storage, layout: Layout) -> Plan:
    """The stored plan, its files where they were planned; empty where there is none yet."""
    return _placed(_stored(storage, layout), None)


def files(storage: Storage, layout: Layout, base: str | None = None) -> list[Entry]:
    """The files of the stored plan as they were listed, below a folder; None is where each was planned."""
    return _files(_stored(storage, layout), base)


def _stored(storage: Storage, layout: Layout) -> list[_Part]:
    parts: list[_Part] = []
    while (data := storage.read(path := layout.part(len(parts)))) is not None:
        try:
            head, *items = map(json.loads, data.splitlines())
            part = _Part(head["base"], pa.ipc.read_schema(pa.py_buffer(base64.b64decode(head["keep"]))))
            for item in items:
                if "file" in item:
                    part.files.append(Entry(*item["file"]))
                else:
                    part.shards.append(PlannedShard(item["name"], sources.from_json(item["shard"])))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path} is damaged; restore it, or name a new output folder") from None
        parts.append(part)
    return parts


def _files(parts: Sequence[_Part], base: str | None) -> list[Entry]:
    """The planned files below a folder; None is where each was planned."""
    return [_below(part.base if base is None else base, entry) for part in parts for entry in part.files]


def _placed(parts: Sequence[_Part], base: str | None) -> Plan:
    """The plan with its files below a folder; None is where each was planned."""
    shards = []
    for part in parts:
        place = part.base if base is None else base
        for item in part.shards:
            slices = tuple(replace(piece, file=_below(place, piece.file)) for piece in item.shard.slices)
            shards.append(replace(item, shard=replace(item.shard, slices=slices)))
    keep = parts[-1].keep if parts else pa.schema([])
    return Plan(tuple(_files(parts, base)), tuple(shards), keep, tuple(part.base for part in parts))


def _below(base: str, entry: Entry) -> Entry:
    return replace(entry, path=posixpath.join(base, entry.path))


def _place(parts: Sequence[_Part], base: str, listed: Container[str]) -> str | None:
    """Where the input is now: None, for where it was planned, if the call names those files by another folder or pattern."""
    below_base, as_planned = (all(entry.path in listed for entry in _files(parts, place)) for place in (base, None))
    return None if as_planned and not below_base else base


def _lines(part: int, keep: pa.Schema, base: str, files: Sequence[Entry], shards: Iterable[Shard]) -> Iterator[bytes]:
    yield _line({"keep": base64.b64encode(keep.serialize().to_pybytes()).decode(), "base": base})
    for entry in files:
        yield _line({"file": [sources.source_of(entry, base), entry.size, entry.version]})
    for number, shard in enumerate(shards):
        slices = tuple(replace(piece, file=replace(piece.file, path=piece.source)) for piece in shard.slices)
        yield _line({"name": shard_name(part, number), "shard": sources.to_json(replace(shard, slices=slices))})


def _line(item: dict) -> bytes:
    # Surrogates of undecodable file names survive as escapes; as UTF-8 they would be refused.
    return (json.dumps(item, ensure_ascii=True) + "\n").encode()


def _compare(plan: Plan, base: str, listed: dict[str, Entry]) -> None:
    """InputChanged if a planned file is not listed as it was."""
    changed = [entry for entry in plan.files if listed.get(entry.path) != entry]
    if not changed:
        return
    first = changed[0]
    missing = first.path not in listed
    what = "missing from the input" if missing else "changed"
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    advice = "restore it or name a new output folder"
    if base not in plan.bases:
        keeps = "" if missing else "; a copy must keep the times of change (cp -p)"
        advice = f"the input lay in {plan.bases[-1]}{keeps}; {advice}"
    raise InputChanged(f"{posixpath.basename(first.path)}{more}: {what} since the run was planned; {advice} ({first.path})")
