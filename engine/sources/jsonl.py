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
from engine.sources.rows import Rows
from engine.sources.scan import Span, cut_file, lines
from engine.storage import Entry, Storage

# Objects that show which keys there are.
_SAMPLE = 100


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], from_folders: Sequence[str] = ()
) -> list[pa.Field]:
    """The kept keys, which become strings; checks that each named key is in one of the input's first 100 objects.

    Args:
        from_folders: the kept columns in the folders of these files.
    Raises:
        ConfigError: a key is in none of them.
    """
    require_cuttable(config)
    objects: list[dict[str, Any]] = []
    for file, _ in files:
        if len(objects) == _SAMPLE:
            break
        try:
            with open_file(storage, file) as stream:
                objects.extend(islice(_objects(config, stream, file), _SAMPLE - len(objects)))
        except OSError as error:
            unreadable(file.path, error)
    if objects:
        keys = list(dict.fromkeys(key for values in objects for key in values))
        require_columns(config, "the input", keys)
        refuse_doubled(keys, from_folders, "the input")
    return [pa.field(name, pa.string()) for name in config.keep]


def names(config: InputConfig, storage: Storage, file: Entry) -> list[str]:
    """The keys of a file's first 100 objects.

    Raises:
        RowError: it cannot be read.
    """
    try:
        with open_file(storage, file) as stream:
            objects = islice(_objects(config, stream, file), _SAMPLE)
            return list(dict.fromkeys(key for values in objects for key in values))
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
                    values = _object(span, config.encoding)
                    kept = [_text(values.get(name)) for name in config.keep]
                except RowError as error:
                    rows.fail(piece.source, position, error)
                    continue
                rows.add(piece.source, position, values.get(config.id), values.get(config.payload), kept)
    except OSError as error:
        raise interrupted(piece.file.path, error) from None


def _objects(config: InputConfig, stream: BinaryIO, file: Entry) -> Iterator[dict[str, Any]]:
    """The objects of a file, without broken lines."""
    start = bom_length(config.encoding, stream.read(3))
    for span in lines(stream, start, end_of(file), config.longest):
        try:
            yield _object(span, config.encoding)
        except RowError:
            continue


def _object(span: Span, encoding: str) -> dict[str, Any]:
    """The object in one line. Control characters in strings are allowed, since exports hold tabs. NaN is null."""
    if span.error:
        raise span.error
    text = decode(span.data, encoding)
    try:
        # pandas writes NaN for null; other constants are infinities.
        value = json.loads(text, strict=False, parse_constant=lambda name: None if name == "NaN" else float(name))
    except (ValueError, RecursionError) as error:
        # Not `from error`: its message quotes the line.
        raise RowError("parse_error", type(error).__name__) from None
    if not isinstance(value, dict):
        raise RowError("parse_error", f"line is {type(value).__name__}")
    return value


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise RowError("parse_error", "RecursionError") from None
