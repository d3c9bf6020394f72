"""Files to records: lists an input, cuts it into shards, reads a shard.

Each format is a module with the same functions: `keep_fields` (checks the named columns), `cut` (a file to slices), `read` (a
slice to records) and, of tables, `names` (a file's columns). Parquet, which has types, has `kept` and `check_kept` in place of
the first, `schema_of` of the last. Columns that stand in the names of folders are added here; the formats know nothing of them,
but that their files may not have such a column too.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from engine.errors import RowError
from engine.sources import csv_, jsonl, parquet, texts
from engine.sources.base import (
    CSV,
    FORMATS,
    JSONL,
    PARQUET,
    TEXT,
    InputConfig,
    Rows,
    Shard,
    Slice,
    from_json,
    to_json,
    unreadable,
)
from engine.sources.files import Listing, format_of, input_base, input_path, list_files, source_of, survey
from engine.sources.kept import common_type, fits, holds, misfit, settled
from engine.sources.packed import text_bytes
from engine.sources.partitions import grouped, kept_of, with_values, without
from engine.storage import Entry, Storage

__all__ = [
    "FORMATS",
    "InputConfig",
    "Listing",
    "Shard",
    "Slice",
    "cut",
    "from_json",
    "input_base",
    "input_path",
    "keep_fields",
    "list_files",
    "read",
    "schema_of",
    "source_of",
    "survey",
    "text_bytes",
    "to_json",
]

_MODULES = {PARQUET: parquet, CSV: csv_, JSONL: jsonl, TEXT: texts}
# So that thousands of tiny files do not become one task that opens them all.
_MOST_SLICES = 2000


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[Entry], run: Sequence[pa.Field] | None = None
) -> list[pa.Field]:
    """The columns passed through, with the type each has in the whole input; checks that every named column exists.

    Opens every table's footer or header, and no text file. Where the types of two Parquet files differ, the column is read, to
    see that no value is lost on the way to the common type.

    Args:
        run: the types in a run that these files come to, which stay as they are; None for the first files of a run.
    Raises:
        ConfigError: a named column is missing somewhere, or cannot be used.
    """
    base = input_base(config)
    alike: dict[tuple[str, tuple[str, ...]], list[tuple[Entry, str]]] = defaultdict(list)
    folders: dict[tuple[str, str | None], str] = {}
    for entry in files:
        source = source_of(entry, base)
        values = kept_of(config, source)
        alike[format_of(config, entry), tuple(values)].append((entry, source))
        for pair in values.items():
            folders.setdefault(pair, source)
    kinds = [pa.schema([(name, pa.string())]) for name in {name: None for name, _ in folders}]
    tables: list[tuple[Entry, str, pa.Schema]] = []
    texts_of: list[tuple[str, pa.Field]] = []
    for (name, given), theirs in alike.items():
        ours = without(config, given)
        if name == PARQUET:
            tables += parquet.kept(ours, storage, theirs, given)
            continue
        fields = _MODULES[name].keep_fields(ours, storage, theirs, given)
        kinds.append(pa.schema(fields))
        texts_of += [(theirs[0][1], field) for field in fields]
    kinds += [schema for _, _, schema in tables]
    keep = [_common(name, kinds) for name in config.keep] if run is None else list(run)
    parquet.check_kept(storage, tables, keep)
    wanted = {field.name: field for field in keep}
    for source, field in texts_of:
        if not holds(wanted[field.name].type, field.type):
            raise misfit(wanted[field.name], source, field.type)
    for (name, value), source in folders.items():
        if not fits(pa.array([value], pa.string()), wanted[name].type):
            raise misfit(wanted[name], source, pa.string())
    return keep


def schema_of(config: InputConfig, storage: Storage, file: Entry) -> pa.Schema:
    """The columns that a table has, by its header, footer or first objects; folders give none here. Without types they are text.

    Raises:
        RowError: it cannot be read.
    """
    name = format_of(config, file)
    if name == PARQUET:
        return parquet.schema_of(storage, file)
    return pa.schema([(column, pa.string()) for column in _MODULES[name].names(config, storage, file)])


def cut(
    config: InputConfig, storage: Storage, files: Iterable[Entry], shard_bytes: int, base: str | None = None
) -> Iterator[Shard]:
    """The shards of these files, lazily and in input order.

    Args:
        files: some or all of `list_files`.
        shard_bytes: about how many bytes of text a shard has; a file or a record that is larger is not split for it.
        base: the folder that sources are relative to; None asks `input_base`.
    Raises:
        ConfigError: a file lacks a named column.
        InputChanged: a file is not what the listing saw.
    """
    base = input_base(config) if base is None else base
    waiting: list[Slice] = []
    size = 0
    for entry in files:
        module, source = _MODULES[format_of(config, entry)], source_of(entry, base)
        for piece in module.cut(without(config, kept_of(config, source)), storage, entry, source, shard_bytes):
            if waiting and (size + piece.bytes > shard_bytes or len(waiting) == _MOST_SLICES):
                yield _shard(waiting)
                waiting, size = [], 0
            waiting.append(piece)
            size += piece.bytes
    if waiting:
        yield _shard(waiting)


def read(config: InputConfig, storage: Storage, shard: Shard, keep: Sequence[pa.Field]) -> pa.Table:
    """The records of a shard, broken ones included, in input order.

    Args:
        keep: what `keep_fields` said for the whole input.
    Returns:
        A table of `records_schema(keep)`.
    Raises:
        InputChanged: a file is not what the plan saw.
        RetryableError: a file that could be read at planning cannot be read now.
    """
    tables = []
    for given, pieces in grouped(config, shard.slices):
        theirs = [field for field in keep if field.name not in given]
        table = _read(without(config, given), storage, pieces, theirs)
        tables.append(with_values(table, given, keep) if given else table)
    if len(tables) == 1:
        return tables[0]
    table = pa.concat_tables(tables)
    at = table.schema.get_field_index("row")
    return table.set_column(at, table.schema.field(at), pa.array(range(len(table)), pa.int32()))


def _read(config: InputConfig, storage: Storage, pieces: Iterable[Slice], keep: Sequence[pa.Field]) -> pa.Table:
    rows = Rows(config, keep)
    for piece in pieces:
        if piece.broken is None:
            _MODULES[piece.format].read(config, storage, piece, rows, keep)
        else:
            _check_broken(storage, piece)
            rows.fail(piece.source, piece.position, RowError("unreadable_file", piece.broken), record_id=piece.source)
    return rows.table()


def _common(name: str, schemas: Iterable[pa.Schema]) -> pa.Field:
    kind = pa.null()
    for schema in schemas:
        if name in schema.names:
            kind = common_type(name, kind, schema.field(name).type)
    return pa.field(name, settled(kind))


def _check_broken(storage: Storage, piece: Slice) -> None:
    """A file that was mended since the plan has changed like any other: InputChanged."""
    try:
        with storage.open(piece.file.path, piece.file) as stream:
            # An object store looks at the file when it is read.
            stream.read(1)
    except OSError as error:
        unreadable(piece.file.path, error)


def _shard(slices: Sequence[Slice]) -> Shard:
    return Shard(tuple(slices), sum(s.rows for s in slices), sum(s.bytes for s in slices))
