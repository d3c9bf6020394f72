"""What all formats share: the settings of an input, the pieces that it is cut into, and the table of its records."""

import codecs
import errno
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError, RetryableError, RowError
from engine.keys import MISSING, check_keys, key
from engine.records import records_schema
from engine.sources.column_types import cast_column
from engine.storage import Entry

PARQUET, CSV, JSONL, TEXT = "parquet", "csv", "jsonl", "text"
FORMATS = (PARQUET, CSV, JSONL, TEXT)
SCOPES = ("input", "file")
DOUBLE, NONE = "double", "none"
QUOTING = (DOUBLE, NONE)

_LONGEST_NAME = 64
_MOST_NAMES = 40
# Errors that may pass: the machine lacks a resource, or a network drive is away.
_TRANSIENT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}


def delimiter_of(setting: str | None) -> str | None:
    """The delimiter of CSV; a tab may be written as `\\t`, which is easier to type in a shell."""
    return "\t" if setting == "\\t" else setting


@dataclass(frozen=True)
class InputConfig:
    """Where the records are and how to read them.

    A path that exists is never read as a glob. With `text` None, for tables of labels, no text is read, and the records have
    neither text nor failure. `max_bytes` counts bytes of UTF-8.

    Raises:
        ConfigError: a setting is impossible.
    """

    path: str = key(MISSING, "File, folder (with everything below it) or glob with the reports.", path=True)
    id: str | None = key(
        None,
        "Column with the reports' ids, which must be unique. Without it the id is file and position, and for "
        "text files the file's name.",
    )
    text: str | None = "text"
    keep: tuple[str, ...] = key(
        (), "Columns to pass through to the result, such as [patient_id,hospital]; also those of folders named year=2024."
    )
    format: str | None = key(
        None, "Format of all files; null decides by each file's ending. jsonl also reads a folder's .json files.", choices=FORMATS
    )
    encoding: str = key("utf-8", "Encoding of CSV, JSONL and text files, for example cp1252 or latin-1.")
    delimiter: str | None = key(None, "Separator of CSV columns; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(
        DOUBLE,
        "Quotes in CSV. double: fields may be in double quotes, and a quote inside them is doubled. none: quotes "
        "have no meaning.",
        choices=QUOTING,
    )
    escape: str | None = key(
        None, "Character such as \\ that makes the quote, delimiter or line end after it part of the CSV column."
    )
    id_scope: str = key(
        "input",
        "Where ids are unique; 'file' puts the file's name in front of each id, for files that each number their rows from 1.",
        choices=SCOPES,
    )
    max_bytes: int = key(4_194_304, "A report with more bytes than this fails as too_large.", low=1)

    def __post_init__(self) -> None:
        check_keys(self, "input.")
        object.__setattr__(self, "keep", tuple(self.keep))
        if self.id == "":
            raise ConfigError("input.id: name a column, or leave it out to make ids from file and position")
        if self.text == "":
            raise ConfigError("input.text: name the column that holds the text")
        if self.text in self.keep:
            raise ConfigError(f"input.keep: '{self.text}' is the text, which is never copied into a result table")
        if len(set(self.keep)) < len(self.keep):
            raise ConfigError("input.keep: a column is named twice")
        delimiter = delimiter_of(self.delimiter)
        object.__setattr__(self, "delimiter", delimiter)
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
            raise ConfigError("input.delimiter: give one ASCII character, not a quote or a line end")
        escape = self.escape
        if escape is not None and (len(escape) != 1 or not escape.isascii() or escape.isalnum() or escape in '"\r\n '):
            raise ConfigError("input.escape: give one ASCII character such as \\, not a letter, digit, blank, quote or line end")
        if escape is not None and escape in (delimiter or ",\t"):
            raise ConfigError("input.escape: it is the delimiter; give another character, or leave it out")
        try:
            b"a".decode(self.encoding, "replace")
        except (LookupError, ValueError):
            raise ConfigError(f"input.encoding: no text encoding is called '{self.encoding}'; try utf-8 or cp1252") from None
        for name, mark in (("delimiter", delimiter), ("escape", escape)):
            if mark is not None and _is_second_byte(mark, self.encoding):
                raise ConfigError(
                    f"input.{name}: in {self.encoding} '{mark}' may be half a character; convert the files to utf-8 first"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read, without repeats."""
        return tuple(dict.fromkeys(name for name in (self.id, self.text, *self.keep) if name is not None))

    @property
    def longest(self) -> int:
        """The most bytes of one record in memory: enough for all columns, and to tell a long record from a broken one."""
        return max(4 * self.max_bytes, 1 << 20)


@dataclass(frozen=True)
class Slice:
    """A piece of one file.

    `start` and `stop` are byte offsets in CSV and JSONL (of a packed file, in its unpacked content), row numbers within row group
    `group` in Parquet, and unused for text files. `position` is the number of the slice's first record in the file. An
    unreadable file, or the unreadable rest of a damaged one, is a slice of one record; `broken` has the class of the error or the
    place of the damage. A part of a CSV file in which the boundaries of records are lost is one record too, described by `torn`.
    `extra` is the field of each CSV record that the header does not name: "first", "last" or None.
    """

    format: str
    file: Entry
    source: str
    rows: int
    bytes: int
    start: int = 0
    stop: int = 0
    position: int = 0
    group: int = 0
    groups: int = 0
    broken: str | None = None
    torn: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class Shard:
    """The work of one task: slices in input order, their number of records, and their approximate bytes of text."""

    slices: tuple[Slice, ...]
    rows: int | None
    bytes: int


def to_json(shard: Shard) -> dict[str, Any]:
    """The shard as plain values."""
    return asdict(shard)


def from_json(data: Mapping[str, Any]) -> Shard:
    """The shard that `to_json` wrote."""
    slices = tuple(Slice(**{**piece, "file": Entry(**piece["file"])}) for piece in data["slices"])
    return Shard(slices, data["rows"], data["bytes"])


class Rows:
    """Collects the records of a shard, readable and broken, into a table.

    The kept columns are given either as plain values with each record, or as Arrow arrays after several records.
    """

    def __init__(self, config: InputConfig, keep: Sequence[pa.Field]) -> None:
        self._config = config
        self._keep = tuple(keep)
        # Id, source, position, text and failure of each record.
        self._rows: list[tuple[str, str, int, bytes | None, dict[str, str] | None]] = []
        self._values: list[Sequence[str | None]] = []
        self._arrays: list[list[pa.Array]] = [[] for _ in self._keep]

    def add(
        self,
        source: str,
        position: int,
        given_id: str | bytes | float | None,
        text: str | bytes | None,
        kept: Sequence[str | None] = (),
        record_id: str | None = None,
        invalid_keep: bool = False,
    ) -> None:
        """Adds a parsed record; an invalid value becomes its failure.

        Args:
            given_id: the id in the input, NaN if it is missing; ignored if the config names no id column.
            text: the text, or its UTF-8 bytes.
            kept: values of the kept columns; empty if `keep_arrays` follows.
            record_id: the id of the record if the config names no id column; by default source and position.
            invalid_keep: one of the kept values is not valid text.
        """
        record_id, data, failure = record_id or f"{source}:{position}", None, None
        if kept:
            valid = [value if value is None or _is_encodable(value) else None for value in kept]
            kept, invalid_keep = valid, valid != list(kept)
        try:
            if self._config.id is not None:
                record_id = self._record_id(source, given_id)
            if invalid_keep:
                raise RowError("invalid_encoding", "input.keep")
            data = None if self._config.text is None else _utf8(text, self._config.max_bytes)
        except RowError as error:
            failure = {"kind": error.kind, "detail": error.detail}
        self._rows.append((record_id, source, position, data, failure))
        if kept:
            self._values.append(kept)

    def fail(self, source: str, position: int, error: RowError, record_id: str | None = None) -> None:
        """Adds a record that could not be parsed."""
        failure = {"kind": error.kind, "detail": error.detail}
        self._rows.append((record_id or f"{source}:{position}", source, position, None, failure))
        self._values.append((None,) * len(self._keep))

    def keep_arrays(self, arrays: Sequence[pa.Array]) -> None:
        """Adds the kept columns of the records that were added without values: one array per column, of the column's type."""
        self._flush()
        for chunks, array in zip(self._arrays, arrays, strict=True):
            chunks.append(array)

    def table(self) -> pa.Table:
        """All records so far, as a table of `records_schema`."""
        self._flush()
        if self._keep:
            columns = [
                pa.concat_arrays(chunks) if chunks else pa.array([], field.type)
                for chunks, field in zip(self._arrays, self._keep, strict=True)
            ]
            keep = pa.StructArray.from_arrays(columns, fields=list(self._keep))
        else:
            keep = pa.array([{}] * len(self._rows), pa.struct([]))
        schema = records_schema(self._keep)
        columns = [range(len(self._rows)), *([row[i] for row in self._rows] for i in range(5))]
        arrays = [pa.array(values, schema.field(i).type) for i, values in enumerate(columns)]
        return pa.Table.from_arrays([*arrays, keep], schema=schema)

    def _record_id(self, source: str, value: str | bytes | float | None) -> str:
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise RowError("invalid_encoding", "input.id") from None
        if isinstance(value, float):
            # A float this large may have lost digits of a whole number.
            value = None if math.isnan(value) else int(value) if value.is_integer() and abs(value) < 2**53 else value
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
            raise RowError("parse_error", f"id is {type(value).__name__}")
        if value is None or (isinstance(value, str) and (not value or value.isspace())):
            raise RowError("parse_error", "missing_id")
        value = str(value)
        if not _is_encodable(value):
            raise RowError("invalid_encoding", "input.id")
        return f"{source}:{value}" if self._config.id_scope == "file" else value

    def _flush(self) -> None:
        """Turns the kept values so far into arrays."""
        for field, values, chunks in zip(self._keep, zip(*self._values, strict=True), self._arrays, strict=False):
            chunks.append(cast_column(pa.array(values, pa.string()), field))
        self._values.clear()


def unreadable(path: str, error: OSError) -> RowError:
    """The failure of an unreadable file, which becomes one record.

    Raises:
        RetryableError: the error may pass, and the same read may work later.
    """
    if error.errno in _TRANSIENT:
        raise RetryableError(f"cannot read {path}: {os.strerror(error.errno)}; run the same command again") from None
    return RowError("unreadable_file", type(error).__name__)


def interrupted(path: str, error: OSError) -> RetryableError:
    """The error for a file that becomes unreadable while it is read."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return RetryableError(f"reading {path} broke off: {reason}; run the same command again")


def require_columns(config: InputConfig, where: str, names: Sequence[str], header: bool = False) -> None:
    """Checks that a file has each column of the config exactly once.

    Args:
        where: what has the columns, for the message.
        header: the names are the first line of a file, which may also be a record.
    Raises:
        ConfigError: a column is missing or occurs twice. The message lists the names, unless they look like a record.
    """
    settings = [("input.id", config.id), ("input.text", config.text), *(("input.keep", name) for name in config.keep)]
    for setting, name in settings:
        if name is None or names.count(name) == 1:
            continue
        if name in names:
            raise ConfigError(f"{setting}: {where} has {names.count(name)} columns named '{name}'; rename all but one")
        printable = [
            column for column in names if len(column) <= _LONGEST_NAME and column.isprintable() and not column.strip().isdigit()
        ]
        if header and len(printable) < len(names):
            raise ConfigError(
                f"{setting}: {where} has no column '{name}', and its first line ({len(names)} fields) does not look like a "
                "header; add one, or check input.delimiter"
            )
        shown = ", ".join(printable[:_MOST_NAMES]) + (", ..." if len(printable) > _MOST_NAMES else "")
        raise ConfigError(f"{setting}: {where} has no column '{name}'; it has: {shown}")


def require_cuttable(config: InputConfig) -> None:
    """Checks that files in the config's encoding can be cut at line ends and quotes without decoding them.

    Raises:
        ConfigError: they cannot, as in UTF-16 and in encodings that shift between alphabets.
    """
    ascii_text = '",\t;|\r\n{}:[]0123456789abcdefghijklmnopqrstuvwxyz'
    name = codecs.lookup(config.encoding).name
    if name.startswith(("utf-7", "hz", "iso2022")) or (
        name != "utf-8-sig" and ascii_text.encode(config.encoding, "replace") != ascii_text.encode("ascii")
    ):
        raise ConfigError(f"input.encoding: CSV and JSONL cannot be read in {config.encoding}; convert the files to utf-8 first")


def bom_length(encoding: str, head: bytes) -> int:
    """Bytes of the byte order mark at the beginning of a file."""
    return 3 if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") and head.startswith(codecs.BOM_UTF8) else 0


def decode(data: bytes, encoding: str) -> str:
    """Bytes to text, with a lone surrogate for each invalid byte, so that the other fields stay readable.

    Raises:
        RowError: the codec cannot go on after such a byte.
    """
    codec = "utf-8" if codecs.lookup(encoding).name == "utf-8-sig" else encoding
    try:
        return data.decode(codec, "surrogateescape")
    except UnicodeError:
        raise RowError("invalid_encoding", codec) from None


def _is_second_byte(mark: str, encoding: str) -> bool:
    """Whether an ASCII character can be the second byte of another character."""
    pairs = (bytes((lead,)) + mark.encode("ascii") for lead in range(0x80, 0x100))
    return any(len(pair.decode(encoding, "replace")) == 1 for pair in pairs)


def _utf8(text: str | bytes | None, max_bytes: int) -> bytes:
    """The text as checked UTF-8 bytes; RowError if it is missing, blank, too large or not Unicode."""
    if text is None or (isinstance(text, float) and math.isnan(text)):
        raise RowError("missing_text")
    if not isinstance(text, (str, bytes)):
        raise RowError("parse_error", f"text is {type(text).__name__}")
    try:
        data = text.encode("utf-8") if isinstance(text, str) else text
        if len(data) > max_bytes:
            raise RowError("too_large", f"bytes={len(data)}")
        characters = text if isinstance(text, str) else data.decode("utf-8")
    except UnicodeError:
        raise RowError("invalid_encoding") from None
    if not characters or characters.isspace():
        raise RowError("missing_text")
    return data


def _is_encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
