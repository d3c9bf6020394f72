"""What all formats share: the settings of an input, and the pieces that it is cut into."""

import codecs
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import ConfigError, RetryableError, RowError
from engine.keys import MISSING, check_keys, key
from engine.records import IMAGES
from engine.records import TEXT as TEXTS
from engine.storage import Entry

PARQUET, CSV, JSONL, TEXT, IMAGE = "parquet", "csv", "jsonl", "text", "image"
# By what the records hold.
FORMATS = {TEXTS: (PARQUET, CSV, JSONL, TEXT), IMAGES: (PARQUET, CSV, JSONL, IMAGE)}
_MAX_BYTES = {TEXTS: 4 << 20, IMAGES: 256 << 20}
# Studies in a shard, at most; only a large row group of Parquet may give slices with more.
MOST_STUDIES = 64
# A row of a manifest, which holds no image.
_LONGEST_ROW = 16 << 20
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

    With `reads` "images" the records are image studies. `image` is the column of a table with paths of image files, or with
    their bytes; `study` the column whose equal values make the images of several rows one study; `root` the folder that paths are
    relative to, by default the table's. `max_bytes` counts bytes of an image file.

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
        None,
        "Format of all files; null decides by each file's ending. jsonl also reads a folder's .json files.",
        choices=tuple(dict.fromkeys((*FORMATS[TEXTS], *FORMATS[IMAGES]))),
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
    max_bytes: int | None = key(
        None, "A report or image file with more bytes than this fails as too_large; null is 4 MiB and 256 MiB.", low=1
    )
    reads: str = TEXTS
    image: str = "image"
    study: str | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        check_keys(self, "input.")
        if self.reads not in FORMATS:
            raise ConfigError(f"input.reads: '{self.reads}' is not allowed; wants one of {', '.join(FORMATS)}")
        if self.max_bytes is None:
            object.__setattr__(self, "max_bytes", _MAX_BYTES[self.reads])
        if self.reads == IMAGES:
            object.__setattr__(self, "text", None)
            self._check_images()
        if self.format is not None and self.format not in FORMATS[self.reads]:
            raise ConfigError(f"input.format: {self.reads} are not read from {self.format} files")
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
    def payload(self) -> str | None:
        """The column of a table with the texts or images; None if none is read."""
        return self.image if self.reads == IMAGES else self.text

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Every column of a table that is named, with the key that names it."""
        single = ("id", "image", "study") if self.reads == IMAGES else ("id", "text")
        named = [*((f"input.{name}", getattr(self, name)) for name in single), *(("input.keep", name) for name in self.keep)]
        return [(key, name) for key, name in named if name is not None]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read, without repeats."""
        return tuple(dict.fromkeys(name for _, name in self.settings))

    @property
    def longest(self) -> int:
        """The most bytes of one record in memory: enough for all columns, and to tell a long record from a broken one."""
        return _LONGEST_ROW if self.reads == IMAGES else max(4 * self.max_bytes, 1 << 20)

    def _check_images(self) -> None:
        for name in ("image", "study"):
            if getattr(self, name) == "":
                raise ConfigError(f"input.{name}: name a column of the table, or leave it out")
        if self.image in (*self.keep, self.study):
            key = "keep" if self.image in self.keep else "study"
            raise ConfigError(f"input.{key}: '{self.image}' is the column of images (input.image); name another one")


@dataclass(frozen=True)
class Study:
    """An image study of a manifest, as it was planned.

    `images` are the name in the manifest, size in bytes and version of each file, `keep` the values of the kept columns as
    `column_types.plain` gives them. `failure` has the kind and detail of a study that cannot be read.
    """

    record_id: str
    images: tuple[tuple[str, int, str], ...] = ()
    keep: tuple[Any, ...] = ()
    failure: tuple[str, str] | None = None


@dataclass(frozen=True)
class Slice:
    """A piece of one file.

    `start` and `stop` are byte offsets in CSV and JSONL (of a packed file, in its unpacked content), row numbers within row group
    `group` in Parquet, and unused for text files. `position` is the number of the slice's first record in the file. An
    unreadable file, or the unreadable rest of a damaged one, is a slice of one record; `broken` has the class of the error or the
    place of the damage. A part of a CSV file in which the boundaries of records are lost is one record too, described by `torn`.
    `extra` is the field of each CSV record that the header does not name: "first", "last" or None. A study of a manifest is a
    slice of its own; its file is the manifest, and `bytes` are those of its images.
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
    study: Study | None = None


@dataclass(frozen=True)
class Shard:
    """The work of one task: slices in input order, their number of records, and their approximate bytes of text or images."""

    slices: tuple[Slice, ...]
    rows: int | None
    bytes: int


def to_json(shard: Shard) -> dict[str, Any]:
    """The shard as plain values."""
    return {"slices": [_plain(piece) for piece in shard.slices], "rows": shard.rows, "bytes": shard.bytes}


def from_json(data: Mapping[str, Any]) -> Shard:
    """The shard that `to_json` wrote."""
    slices = tuple(
        Slice(**{**piece, "file": Entry(**piece["file"]), "study": _study(piece.get("study"))}) for piece in data["slices"]
    )
    return Shard(slices, data["rows"], data["bytes"])


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
    for setting, name in config.settings:
        if names.count(name) == 1:
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


def _plain(piece: Slice) -> dict[str, Any]:
    """A slice as plain values, a study's without defaults, as there may be very many; a text's has every field but `study`."""
    values = asdict(piece)
    if piece.study is None:
        del values["study"]
        return values
    return {each.name: values[each.name] for each in fields(piece) if getattr(piece, each.name) != each.default}


def _study(data: Mapping[str, Any] | None) -> Study | None:
    if data is None:
        return None
    failure = data["failure"]
    return Study(data["record_id"], tuple(map(tuple, data["images"])), tuple(data["keep"]), failure and tuple(failure))
