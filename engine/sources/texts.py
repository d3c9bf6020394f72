"""A folder of texts: every file is one record."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.sources.base import TEXT, InputConfig, Slice, unreadable
from engine.sources.rows import Rows
from engine.storage import Entry, Storage


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], from_folders: Sequence[str] = ()
) -> list[pa.Field]:
    """No columns.

    Raises:
        ConfigError: the config names some.
    """
    if config.keep:
        raise ConfigError("input.keep: text files have no columns to keep; leave it empty")
    if config.id is not None:
        raise ConfigError("input.id: text files have no columns, their names are the ids; leave it out")
    return []


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The file as one slice; it is not opened."""
    yield Slice(TEXT, file, source, 1, file.size)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the file's text, its line ends unchanged; the file's name is the record's id."""
    file = piece.file
    try:
        if file.size > config.longest:
            # Too large in any encoding: none takes more than four bytes for one of UTF-8.
            raise RowError("too_large", f"bytes={file.size}")
        try:
            with storage.open(file.path, file) as stream:
                text = stream.read().decode(config.encoding)
        except OSError as error:
            raise unreadable(file.path, error) from None
        except UnicodeError:
            raise RowError("invalid_encoding", config.encoding) from None
        rows.add(piece.source, 0, None, text, record_id=piece.source)
    except RowError as error:
        rows.fail(piece.source, 0, error, record_id=piece.source)
