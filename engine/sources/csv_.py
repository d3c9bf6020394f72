"""CSV and TSV: a header, then one record a row, cut by byte offsets."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import BinaryIO

import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.sources.base import (
    CSV,
    DOUBLE,
    InputConfig,
    Slice,
    bom_length,
    decode,
    interrupted,
    require_columns,
    require_cuttable,
    unreadable,
)
from engine.sources.dialect import Dialect, split
from engine.sources.packed import Damaged, damage_first, end_of, open_file, plain_name
from engine.sources.partitions import refuse_doubled
from engine.sources.rows import Rows
from engine.sources.scan import Span, Tear, csv_records, cut_file
from engine.sources.tears import TORN, WHOLE, Judge, Tears, Verdict, resolve_tears
from engine.storage import Entry, Storage

_HEADER_CHUNK = 1 << 14
# The first records of a file, as many as these limits allow, show whether it fits the config.
_HEAD_RECORDS = 100
_HEAD_BYTES = 1 << 20
# One record in this many may have another number of fields there.
_ODD_SHARE = 20

FIRST, LAST = "first", "last"


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], from_folders: Sequence[str] = ()
) -> list[pa.Field]:
    """The kept columns, which are strings; checks the header and the first records of every file.

    Args:
        from_folders: the kept columns in the folders of these files.
    Raises:
        ConfigError: a column is missing, no header can be read in the config's encoding, or the first records of a file do not
            fit the config.
    """
    require_cuttable(config)
    readable, failures = False, set()
    for file, source in files:
        try:
            with open_file(storage, file) as stream:
                names, start = _header(config, stream, file)
                if names is not None:
                    with damage_first(stream):
                        require_columns(config, source, names, header=True)
                        refuse_doubled(names, from_folders, source)
                        _check_head(config, stream, file, source, names, start)
            readable = True
        except OSError as error:
            unreadable(file.path, error)
        except RowError as error:
            failures.add(error.kind)
    if not readable and "invalid_encoding" in failures:
        raise ConfigError(f"input.encoding: the first line of the input is not {config.encoding}; set the files' encoding")
    return [pa.field(name, pa.string()) for name in config.keep]


def names(config: InputConfig, storage: Storage, file: Entry) -> list[str]:
    """The columns of a file; none if it is empty.

    Raises:
        RowError: its header cannot be read.
    """
    try:
        with open_file(storage, file) as stream:
            return _header(config, stream, file)[0] or []
    except OSError as error:
        raise unreadable(file.path, error) from None


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The slices of one file, in order."""
    extra: str | None = None

    def records(stream: BinaryIO) -> tuple[int, Iterator[Span | Tear]]:
        nonlocal extra
        names, start = _header(config, stream, file)
        if names is None:
            return start, iter(())
        with damage_first(stream):
            require_columns(config, source, names, header=True)
        extra = _extra(config, stream, file, names, start)
        return start, resolve_tears(_spans(config, stream, file, start), Judge(_dialect(config, file), len(names) + bool(extra)))

    for piece in cut_file(storage, CSV, file, source, shard_bytes, records):
        yield replace(piece, extra=extra) if extra else piece


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the records of a slice."""
    try:
        with open_file(storage, piece.file) as stream:
            names, _ = _header(config, stream, piece.file)
            if piece.torn is not None:
                rows.fail(piece.source, piece.position, RowError("parse_error", piece.torn))
            elif names is not None:
                require_columns(config, piece.source, names, header=True)
                _read(config, stream, piece, rows, names)
    except OSError as error:
        raise interrupted(piece.file.path, error) from None


def _read(config: InputConfig, stream: BinaryIO, piece: Slice, rows: Rows, names: list[str]) -> None:
    dialect = _dialect(config, piece.file)
    id_at, payload_at = (None if name is None else names.index(name) for name in (config.id, config.payload))
    keep_at = [names.index(name) for name in config.keep]
    spans = csv_records(stream, piece.start, piece.stop, dialect, config.longest)
    for position, span in enumerate(spans, piece.position):
        try:
            values = _named(_split(span, config, dialect), len(names), piece.extra)
        except RowError as error:
            rows.fail(piece.source, position, error)
            continue
        given_id = None if id_at is None else values[id_at]
        payload = None if payload_at is None else values[payload_at]
        rows.add(piece.source, position, given_id, payload, [values[i] for i in keep_at])


def _split(span: Span, config: InputConfig, dialect: Dialect) -> list[str]:
    """The values of a record; RowError if it is broken."""
    if span.error:
        raise span.error
    return split(decode(span.data, config.encoding), dialect)


def _named(values: list[str], names: int, extra: str | None) -> list[str]:
    """The values that the header names; RowError if the number of fields differs from the file's first records."""
    expected = names + bool(extra)
    if len(values) != expected or (extra == LAST and values[-1]):
        raise RowError("parse_error", f"fields={len(values)} expected={expected if len(values) != expected else names}")
    if not extra:
        return values
    return values[1:] if extra == FIRST else values[:-1]


def _header(config: InputConfig, stream: BinaryIO, file: Entry) -> tuple[list[str] | None, int]:
    """The column names and the offset of the first record; no names if the file is empty, RowError if they are broken."""
    start = bom_length(config.encoding, stream.read(3))
    dialect = _dialect(config, file)
    for span in csv_records(stream, start, end_of(file), dialect, config.longest, chunk=_HEADER_CHUNK):
        names = _split(span, config, dialect)
        if any("\ud800" <= character <= "\udfff" for name in names for character in name):
            raise RowError("invalid_encoding", "header")
        return names, span.stop
    return None, start


def _spans(config: InputConfig, stream: BinaryIO, file: Entry, start: int) -> Iterator[Span]:
    return csv_records(stream, start, end_of(file), _dialect(config, file), config.longest)


def _dialect(config: InputConfig, file: Entry) -> Dialect:
    delimiter = config.delimiter or ("\t" if plain_name(file.path).lower().endswith(".tsv") else ",")
    return Dialect(delimiter.encode("ascii"), config.quoting == DOUBLE, (config.escape or "").encode("ascii"))


def _extra(config: InputConfig, stream: BinaryIO, file: Entry, names: list[str], start: int) -> str | None:
    """Which field the header does not name, if each of the first records has one more: a row name, or an empty last one.

    Row names are those of R: all quoted, or numbers from 1 on; the latter only if the records do not look like text with commas.
    """
    dialect = _dialect(config, file)
    row_names: list[str] = []
    quoted = empty = True
    prose = False
    try:
        for span in islice(_spans(config, stream, file, start), _HEAD_RECORDS):
            if span.stop > start + _HEAD_BYTES:
                break
            values = _split(span, config, dialect)
            if len(values) != len(names) + 1:
                return None
            row_names.append(values[0])
            quoted = quoted and span.data.startswith(b'"')
            empty = empty and not values[-1]
            prose = prose or any(value.startswith(" ") for value in values)
    except RowError:
        return None
    except Damaged:
        # The records before the damage decide.
        pass
    if not row_names or empty:
        return LAST if row_names else None
    counted = len(row_names) > 1 and not prose and row_names == [str(i) for i in range(1, len(row_names) + 1)]
    return FIRST if counted or (quoted and len(set(row_names)) == len(row_names)) else None


def _check_head(config: InputConfig, stream: BinaryIO, file: Entry, source: str, names: list[str], start: int) -> None:
    """Checks that the first records of a file can be separated, and that nearly all have the right number of fields.

    Raises:
        ConfigError: they cannot, or have not; it names the line.
    """
    columns = len(names) + bool(_extra(config, stream, file, names, start))
    judge, tears = Judge(_dialect(config, file), columns), Tears()
    torn: list[tuple[int, Span, Verdict]] = []
    odd: list[tuple[int, Span, Verdict]] = []
    count, alone = 0, False
    for span in _spans(config, stream, file, start):
        # A tear that begins in the head may end a while later.
        if span.start >= start + 2 * _HEAD_BYTES:
            break
        if tears.begun is None and (count >= _HEAD_RECORDS or span.start >= start + _HEAD_BYTES):
            break
        alone, before = False, tears.begun
        verdict = judge(span)
        tears.add(span, verdict)
        count += 1
        if before is None and tears.begun is not None:
            torn.append((tears.begun, span, verdict))
            alone = tears.begun == span.start
        elif before is None and verdict.kind != WHOLE:
            odd.append((span.start, span, verdict))
    # The last record of a file may be broken without doubt about others: nothing follows it.
    lost = len(torn) > 1 or (tears.begun is not None and not alone)
    backslash = config.escape is None and any(
        b'\\"' in _bytes(stream, begun, max(span.stop, span.start + len(span.head))) for begun, span, _ in torn
    )
    if lost or backslash or (len(odd) > 1 and len(odd) * _ODD_SHARE > count):
        _, span, verdict = min((*torn, *odd), key=lambda place: place[1].start)
        before = _bytes(stream, 0, span.start)
        line = 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
        problem, advice = _problem(verdict, judge.columns), _advice(verdict, backslash)
        raise ConfigError(f"input.path: {source}, line {line}: {problem}; {advice}")


def _problem(verdict: Verdict, columns: int) -> str:
    if verdict.kind == TORN:
        return f"the record that begins there, of {columns} fields, has a quote where none can be, and may run on into others"
    actual = "too many bytes" if verdict.fields is None else f"{verdict.fields} found"
    return f"{columns} fields expected, {actual}, and it is not the only line like that"


def _advice(verdict: Verdict, backslash: bool) -> str:
    if backslash:
        return "a backslash seems to escape quotes, so set 'input.escape=\\'"
    if verdict.kind == TORN:
        return (
            "set input.quoting=none if quotes are characters like any other, or name in input.escape what escapes them; "
            "else check input.delimiter, or mend the file"
        )
    return (
        "check input.delimiter, input.quoting and input.escape; else mend the file: its header must name every column, and "
        "fields that hold delimiters or line ends must be quoted"
    )


def _bytes(stream: BinaryIO, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(stop - start)
