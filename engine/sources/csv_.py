"""CSV and TSV: a header, then one record a row, cut by byte offsets."""

import csv
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.sources.base import (
    CSV,
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
from engine.sources.packed import end_of, open_file, plain_name
from engine.sources.partitions import refuse_doubled
from engine.sources.scan import Span, csv_records, cut_file
from engine.storage import Entry, Storage

_HEADER = 1 << 14


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], given: Sequence[str] = ()
) -> list[pa.Field]:
    """The kept columns, which are strings; checks every header.

    Raises:
        ConfigError: a column is missing, or no header can be read in the config's encoding.
    """
    require_cuttable(config)
    headers = 0
    errors: list[str] = []
    for file, source in files:
        try:
            with open_file(storage, file) as stream:
                names, _ = _header(config, stream, file)
        except OSError as error:
            unreadable(file.path, error)
            continue
        except RowError as error:
            errors.append(error.kind)
            continue
        headers += 1
        if names is not None:
            require_columns(config, source, names, header=True)
            refuse_doubled(names, given, source)
    if not headers and "invalid_encoding" in errors:
        raise ConfigError(f"input.encoding: the first line of the input is not {config.encoding}; set the files' encoding")
    return [pa.field(name, pa.string()) for name in config.keep]


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The slices of one file, in order."""

    def records(stream: BinaryIO) -> tuple[int, Iterator[Span]]:
        names, start = _header(config, stream, file)
        if names is not None:
            require_columns(config, source, names, header=True)
        return start, csv_records(stream, start, end_of(file), _delimiter(config, file), config.longest)

    return cut_file(storage, CSV, file, source, shard_bytes, records)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the records of a slice."""
    try:
        with open_file(storage, piece.file) as stream:
            names, _ = _header(config, stream, piece.file)
            if names is not None:
                require_columns(config, piece.source, names, header=True)
                _read(config, stream, piece, rows, names)
    except OSError as error:
        raise interrupted(piece.file.path, error) from None


def _read(config: InputConfig, stream: BinaryIO, piece: Slice, rows: Rows, names: list[str]) -> None:
    delimiter = _delimiter(config, piece.file)
    separator = delimiter.decode()
    csv.field_size_limit(max(csv.field_size_limit(), config.longest))
    id_at = names.index(config.id) if config.id else None
    text_at = names.index(config.text)
    keep_at = [names.index(name) for name in config.keep]
    spans = csv_records(stream, piece.start, piece.stop, delimiter, config.longest)
    for position, span in enumerate(spans, piece.position):
        if span.error:
            rows.fail(piece.source, position, span.error)
            continue
        try:
            values = _fields(span.data, config.encoding, separator)
            if len(values) != len(names):
                raise RowError("parse_error", f"fields={len(values)} expected={len(names)}")
        except RowError as error:
            rows.fail(piece.source, position, error)
            continue
        given = None if id_at is None else values[id_at]
        rows.add(piece.source, position, given, values[text_at], [values[i] for i in keep_at])


def _fields(data: bytes, encoding: str, separator: str) -> list[str]:
    """The values of one whole record."""
    text = decode(data, encoding)
    if '"' not in text:
        return text.rstrip("\r\n").split(separator)
    try:
        # One reader a record: whatever it makes of these bytes, it cannot run on into the next one's.
        return next(csv.reader((text,), delimiter=separator))
    except (csv.Error, StopIteration) as error:
        raise RowError("parse_error", type(error).__name__) from None


def _header(config: InputConfig, stream: BinaryIO, file: Entry) -> tuple[list[str] | None, int]:
    """The column names and the offset of the first record; no names in an empty file.

    Raises:
        RowError: the first record cannot be parsed.
    """
    start = bom_length(config.encoding, stream.read(3))
    delimiter = _delimiter(config, file)
    for span in csv_records(stream, start, end_of(file), delimiter, config.longest, chunk=_HEADER):
        if span.error:
            raise span.error
        names = _fields(span.data, config.encoding, delimiter.decode())
        if any("\ud800" <= character <= "\udfff" for name in names for character in name):
            raise RowError("invalid_encoding", "header")
        return names, span.stop
    return None, start


def _delimiter(config: InputConfig, file: Entry) -> bytes:
    if config.delimiter is not None:
        return config.delimiter.encode("ascii")
    return b"\t" if plain_name(file.path).lower().endswith(".tsv") else b","
