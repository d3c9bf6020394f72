"""What every format shares: the settings of an input, the pieces it is cut into, and the table of records it becomes."""

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
from engine.sources.kept import cast_kept
from engine.storage import Entry

PARQUET, CSV, JSONL, TEXT = "parquet", "csv", "jsonl", "text"
FORMATS = (PARQUET, CSV, JSONL, TEXT)
SCOPES = ("input", "file")
DOUBLE, NONE = "double", "none"
QUOTING = (DOUBLE, NONE)

_LONGEST_NAME = 64
_MOST_NAMES = 40
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}


def delimiter_of(given: str | None) -> str | None:
    """What separates columns of CSV; a tab may be written as `\\t`, which a shell passes on more readily."""
    return "\t" if given == "\\t" else given


@dataclass(frozen=True)
class InputConfig:
    """Where the records are and how to read them.

    A path that exists as it stands is never a glob. `text` None reads no text, for tables of labels, whose records then have
    neither text nor failure. What is too large is counted in bytes of UTF-8.

    Raises:
        ConfigError: a setting is impossible.
    """

    path: str = key(MISSING, "File, folder (with everything below it) or glob with the reports.", path=True)
    id: str | None = key(
        None,
        "Column with the reports' ids, which must be unique. Without it an id is made from file and position; "
        "for text files it is the file's name.",
    )
    text: str | None = "text"
    keep: tuple[str, ...] = key(
        (), "Columns to pass through to the result, such as [patient_id,hospital]; also those of folders named year=2024."
    )
    format: str | None = key(
        None, "Format of all files; null goes by each file's ending. jsonl also takes a folder's .json files.", choices=FORMATS
    )
    encoding: str = key("utf-8", "Encoding of CSV, JSONL and text files, for example cp1252 or latin-1.")
    delimiter: str | None = key(None, "What separates CSV columns; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(
        DOUBLE,
        "Quotes in CSV: double is fields in double quotes, in which a quote is doubled; none is quotes like any other character.",
        choices=QUOTING,
    )
    escape: str | None = key(
        None, "Character that makes a quote, delimiter or line end behind it part of a CSV column, such as \\."
    )
    id_scope: str = key(
        "input",
        "Where ids are unique; 'file' puts the file's name in front of each, for files that number alike.",
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
            raise ConfigError("input.escape: it is the delimiter; name another character, or leave it out")
        try:
            b"a".decode(self.encoding, "replace")
        except (LookupError, ValueError):
            raise ConfigError(f"input.encoding: no text encoding is called '{self.encoding}'; try utf-8 or cp1252") from None
        for name, mark in (("delimiter", delimiter), ("escape", escape)):
            if mark is not None and _second_byte(mark, self.encoding):
                raise ConfigError(
                    f"input.{name}: in {self.encoding} '{mark}' may be half a character; convert the files to utf-8 first"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        return tuple(dict.fromkeys(name for name in (self.id, self.text, *self.keep) if name is not None))

    @property
    def longest(self) -> int:
        """The most bytes of one record that are ever held: room for the other columns, and to tell long from broken."""
        return max(4 * self.max_bytes, 1 << 20)


@dataclass(frozen=True)
class Slice:
    """A piece of one file.

    `start` and `stop` are bytes for CSV and JSONL, rows counted from the first row of row group `group` for Parquet, and
    nothing for a text file; of a packed file they are bytes of what it unpacks to. `position` is the number in the file of the
    first record. A file that could not be read at all, or the rest of a damaged one, is a slice of one record, with the class of
    the error or the place of the damage as `broken`. So is a part of a CSV file in which nobody can tell where records begin:
    `torn` says which. `extra` is the field of each CSV record that the header does not name: "first", "last" or none.
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
    """What one task reads: slices in input order, the number of their records, and their size in bytes of text (about)."""

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
    """Gathers the records of a shard, sound and broken, and makes the table of them.

    Kept columns come either as plain values with each record, or as Arrow arrays after a batch of records.
    """

    def __init__(self, config: InputConfig, keep: Sequence[pa.Field]) -> None:
        self._config = config
        self._keep = tuple(keep)
        self._ids: list[str] = []
        self._sources: list[str] = []
        self._positions: list[int] = []
        self._texts: list[bytes | None] = []
        self._failures: list[dict[str, str] | None] = []
        self._values: list[list[Any]] = [[] for _ in self._keep]
        self._arrays: list[list[pa.Array]] = [[] for _ in self._keep]

    def add(
        self,
        source: str,
        position: int,
        given: str | bytes | float | None,
        text: str | bytes | None,
        kept: Sequence[str | None] | None = None,
        unclean: bool = False,
    ) -> None:
        """One parsed record; what is wrong with its values becomes its failure.

        Args:
            given: the id in the input, NaN where it is missing; not looked at where the config names no id column.
            text: the text, or its UTF-8 bytes.
            kept: values of the kept columns; None if `keep_arrays` follows.
            unclean: a kept value of it is not valid text.
        """
        record_id = f"{source}:{position}"
        data = failure = None
        if kept is not None:
            kept, unclean = _clean(kept)
        try:
            if self._config.id is not None:
                record_id = self._given_id(source, given)
            if unclean:
                raise RowError("invalid_encoding", "input.keep")
            data = None if self._config.text is None else _utf8(text, self._config.max_bytes)
        except RowError as error:
            failure = error
        self._append(record_id, source, position, data, failure, kept)

    def fail(self, source: str, position: int, error: RowError, record_id: str | None = None, columns: bool = True) -> None:
        """One record that could not be parsed. `columns=False` if `keep_arrays` follows."""
        nothing = (None,) * len(self._keep) if columns else None
        self._append(record_id or f"{source}:{position}", source, position, None, error, nothing)

    def add_text(self, source: str, text: str) -> None:
        """A file that is one record, with the file's name as its id."""
        try:
            data, failure = _utf8(text, self._config.max_bytes), None
        except RowError as error:
            data, failure = None, error
        self._append(source, source, 0, data, failure, ())

    def keep_arrays(self, arrays: Sequence[pa.Array]) -> None:
        """The kept columns of the records added last without values, one array a column, of the kept types."""
        self._flush()
        for chunks, array in zip(self._arrays, arrays, strict=True):
            chunks.append(array)

    def table(self) -> pa.Table:
        """All records so far, as `records_schema` wants them."""
        self._flush()
        rows = len(self._ids)
        if self._keep:
            columns = [
                pa.concat_arrays(chunks) if chunks else pa.array([], field.type)
                for chunks, field in zip(self._arrays, self._keep, strict=True)
            ]
            keep = pa.StructArray.from_arrays(columns, fields=list(self._keep))
        else:
            keep = pa.array([{}] * rows, pa.struct([]))
        schema = records_schema(self._keep)
        columns = [range(rows), self._ids, self._sources, self._positions, self._texts, self._failures]
        arrays = [pa.array(values, schema.field(i).type) for i, values in enumerate(columns)]
        return pa.Table.from_arrays([*arrays, keep], schema=schema)

    def _append(
        self,
        record_id: str,
        source: str,
        position: int,
        data: bytes | None,
        failure: RowError | None,
        kept: Sequence[str | None] | None,
    ) -> None:
        self._ids.append(record_id)
        self._sources.append(source)
        self._positions.append(position)
        self._texts.append(data)
        self._failures.append(failure and {"kind": failure.kind, "detail": failure.detail})
        if kept is not None:
            for values, value in zip(self._values, kept, strict=True):
                values.append(value)

    def _given_id(self, source: str, given: str | bytes | float | None) -> str:
        if isinstance(given, bytes):
            try:
                given = given.decode("utf-8")
            except UnicodeDecodeError:
                raise RowError("invalid_encoding", "input.id") from None
        if isinstance(given, float):
            given = _whole(given)
        if isinstance(given, bool) or not isinstance(given, (str, int, type(None))):
            raise RowError("parse_error", f"id is {type(given).__name__}")
        if given is None or (isinstance(given, str) and (not given or given.isspace())):
            raise RowError("parse_error", "missing_id")
        given = str(given)
        if not _encodable(given):
            raise RowError("invalid_encoding", "input.id")
        return f"{source}:{given}" if self._config.id_scope == "file" else given

    def _flush(self) -> None:
        for field, values, chunks in zip(self._keep, self._values, self._arrays, strict=True):
            if values:
                chunks.append(cast_kept(pa.array(values, pa.string()), field))
                values.clear()


def unreadable(path: str, error: OSError) -> RowError:
    """What an error of the file system makes of a file: a failed record, unless the same read may work later.

    Raises:
        RetryableError: the machine is out of something, or a network drive is away.
    """
    if error.errno in _PASSING:
        raise RetryableError(f"cannot read {path}: {os.strerror(error.errno)}; run the same command again") from None
    return RowError("unreadable_file", type(error).__name__)


def interrupted(path: str, error: OSError) -> RetryableError:
    """What to raise when a file that could be read a moment ago cannot be read now."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return RetryableError(f"reading {path} broke off: {reason}; run the same command again")


def require_columns(config: InputConfig, where: str, names: Sequence[str], header: bool = False) -> None:
    """Checks that a file has the columns that the config names, each once.

    Args:
        where: what has the columns, for the message.
        header: the names are the first line of a file, which in a table without a header is a record.
    Raises:
        ConfigError: one is missing or doubled. It lists the names there are, unless they look like a record.
    """
    settings = [("input.id", config.id), ("input.text", config.text), *(("input.keep", name) for name in config.keep)]
    for setting, name in settings:
        if name is None or names.count(name) == 1:
            continue
        if name in names:
            raise ConfigError(f"{setting}: {where} has {names.count(name)} columns named '{name}'; rename all but one")
        plain = [n for n in names if len(n) <= _LONGEST_NAME and n.isprintable() and not n.strip().isdigit()]
        if header and len(plain) < len(names):
            raise ConfigError(
                f"{setting}: {where} has no column '{name}', and its first line ({len(names)} fields) does not look like a "
                "header; add one, or check input.delimiter"
            )
        shown = ", ".join(plain[:_MOST_NAMES]) + (", ..." if len(plain) > _MOST_NAMES else "")
        raise ConfigError(f"{setting}: {where} has no column '{name}'; it has: {shown}")


def require_cuttable(config: InputConfig) -> None:
    """Checks that line ends and quotes can be found in the bytes of the config's encoding.

    Raises:
        ConfigError: they cannot (UTF-16, and the encodings that shift between alphabets).
    """
    ascii_text = '",\t;|\r\n{}:[]0123456789abcdefghijklmnopqrstuvwxyz'
    name = codecs.lookup(config.encoding).name
    if name.startswith(("utf-7", "hz", "iso2022")) or (
        name != "utf-8-sig" and ascii_text.encode(config.encoding, "replace") != ascii_text.encode("ascii")
    ):
        raise ConfigError(f"input.encoding: CSV and JSONL cannot be read in {config.encoding}; convert the files to utf-8 first")


def bom_length(encoding: str, head: bytes) -> int:
    """How many bytes of a byte order mark the file begins with."""
    return 3 if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") and head.startswith(codecs.BOM_UTF8) else 0


def decode(data: bytes, encoding: str) -> str:
    """Bytes to text, with a lone surrogate for each byte that is not valid, so that the fields beside it can still be told.

    Raises:
        RowError: the codec cannot go on after such a byte.
    """
    codec = "utf-8" if codecs.lookup(encoding).name == "utf-8-sig" else encoding
    try:
        return data.decode(codec, "surrogateescape")
    except UnicodeError:
        raise RowError("invalid_encoding", codec) from None


def _second_byte(mark: str, encoding: str) -> bool:
    """Whether an ASCII character may be the second byte of another one."""
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


def _whole(number: float) -> float | None:
    """A whole number as an int, unless it is so large that digits may have been lost; None for NaN."""
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _clean(kept: Sequence[str | None]) -> tuple[list[str | None], bool]:
    """The kept values with None for what is not valid text, and whether there was such a one."""
    clean = [value if value is None or _encodable(value) else None for value in kept]
    return clean, clean != list(kept)
