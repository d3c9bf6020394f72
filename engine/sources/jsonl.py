"""JSONL: one object a line, cut by byte offsets."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from engine.errors import RowError
from engine.sources.base import (
    JSONL,
    InputConfig,
    Rows,
    Slice,
    bom_length,
    decode,
    interrupted,
    require_columns,
    require_cuttable,
    unreadable,
)
from engine.sources.packed import end_of, open_file
from engine.sources.partitions import refuse_doubled
from engine.sources.scan import Span, cut_file, lines
from engine.storage import Entry, Storage

_LOOK_AT = 100


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], given: Sequence[str] = ()
) -> list[pa.Field]:
    """The kept keys, which become strings; checks that each named key stands in one of the input's first 100 objects.

    Raises:
        ConfigError: a key stands in none of them.
    """
    require_cuttable(config)
    keys: dict[str, None] = {}
    seen = 0
    for file, _ in files:
        if seen == _LOOK_AT:
            break
        try:
            with open_file(storage, file) as stream:
                for values in islice(_objects(config, stream, end_of(file)), _LOOK_AT - seen):
                    keys.update(dict.fromkeys(values))
                    seen += 1
        except OSError as error:
            unreadable(file.path, error)
    if seen:
        require_columns(config, "the input", list(keys))
        refuse_doubled(keys, given, "the input")
    return [pa.field(name, pa.string()) for name in config.keep]


def names(config: InputConfig, storage: Storage, file: Entry) -> list[str]:
    """The keys of a file's first 100 objects.

    Raises:
        RowError: it cannot be read.
    """
    try:
        with open_file(storage, file) as stream:
            firsts = islice(_objects(config, stream, end_of(file)), _LOOK_AT)
            return list(dict.fromkeys(key for values in firsts for key in values))
    except OSError as error:
        raise unreadable(file.path, error) from None


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The slices of one file, in order."""

    def records(stream: BinaryIO) -> tuple[int, Iterator[Span]]:
        start = bom_length(config.encoding, stream.read(3))
        return start, lines(stream, start, end_of(file), config.longest)

    return cut_file(storage, JSONL, file, source, shard_bytes, records)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the records of a slice."""
    try:
        with open_file(storage, piece.file) as stream:
            spans = lines(stream, piece.start, piece.stop, config.longest)
            for position, span in enumerate(spans, piece.position):
                try:
                    if span.error:
                        raise span.error
                    values = _object(span.data, config.encoding)
                    kept = [_kept(values.get(name)) for name in config.keep]
                except RowError as error:
                    rows.fail(piece.source, position, error)
                    continue
                given = None if config.id is None else values.get(config.id)
                rows.add(piece.source, position, given, values.get(config.text), kept)
    except OSError as error:
        raise interrupted(piece.file.path, error) from None


def _objects(config: InputConfig, stream: BinaryIO, stop: int) -> Iterator[dict[str, Any]]:
    """The objects of a file, broken lines left out."""
    start = bom_length(config.encoding, stream.read(3))
    for span in lines(stream, start, stop, config.longest):
        try:
            if span.data is not None:
                yield _object(span.data, config.encoding)
        except RowError:
            continue


def _object(data: bytes, encoding: str) -> dict[str, Any]:
    """The object in one line. Control characters within strings are let through: people's exports hold tabs. NaN is null."""
    text = decode(data, encoding)
    try:
        value = json.loads(text, strict=False, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        # Not `from error`: its message quotes the line.
        raise RowError("parse_error", type(error).__name__) from None
    if not isinstance(value, dict):
        raise RowError("parse_error", f"line is {type(value).__name__}")
    return value


def _number(constant: str) -> float | None:
    """`NaN`, which pandas writes for what is missing, or an infinity."""
    return None if constant == "NaN" else float(constant)


def _kept(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise RowError("parse_error", "RecursionError") from None
