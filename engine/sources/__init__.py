"""Files to records: lists an input, cuts it into shards, reads a shard.

Each format is a module with the same functions: `keep_fields` (checks the named columns), `cut` (a file to slices), `read` (a
slice to records) and, for tables, `names` (a file's columns). Parquet, which has types, has `kept_types` and `check_values`
instead of the first and `schema_of` instead of the last. Columns in the names of folders are added here; the formats only check
that no file has such a column too.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial, reduce

import pyarrow as pa

from engine.errors import RowError
from engine.records import IMAGES
from engine.sources import csv_, images, jsonl, parquet, texts
from engine.sources.base import (
    CSV,
    FORMATS,
    IMAGE,
    JSONL,
    MOST_STUDIES,
    PARQUET,
    TEXT,
    InputConfig,
    Shard,
    Slice,
    from_json,
    to_json,
    unreadable,
)
from engine.sources.column_types import always_fits, common_type, misfit, result_type, values_fit
from engine.sources.files import Listing, format_of, input_base, input_path, list_files, source_of, survey
from engine.sources.packed import text_bytes
from engine.sources.partitions import grouped, kept_of, with_values, without
from engine.sources.rows import Rows
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
    "joined",
    "keep_fields",
    "list_files",
    "pieces",
    "read",
    "schema_of",
    "source_of",
    "survey",
    "text_bytes",
    "to_json",
]

_MODULES = {PARQUET: parquet, CSV: csv_, JSONL: jsonl, TEXT: texts, IMAGE: images}
# Files that one task opens at most, however tiny they are.
_MOST_SLICES = 2000


def keep_fields(
    config: InputConfig, storage: Storage, files: Sequence[Entry], run: Sequence[pa.Field] | None = None
) -> list[pa.Field]:
    """The columns passed through, each with its type in the whole input; checks that every named column exists.

    Opens every table's footer or header, and no text file. If the types of two Parquet files differ, the column is read, to
    check that no value is lost in the common type.

    Args:
        run: the column types of a run that these files are added to, which stay as they are; None for the first files of a run.
    Raises:
        ConfigError: a named column is missing somewhere, or cannot be used.
    """
    base = input_base(config)
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[Entry, str]]] = defaultdict(list)
    folders: dict[tuple[str, str | None], str] = {}
    for entry in files:
        source = source_of(entry, base)
        values = kept_of(config, source)
        groups[format_of(config, entry), tuple(values)].append((entry, source))
        for pair in values.items():
            folders.setdefault(pair, source)
    tables: list[tuple[Entry, str, pa.Schema]] = []
    untyped: list[tuple[str, pa.Field]] = []
    for (format, from_folders), members in groups.items():
        inner = without(config, from_folders)
        if format == PARQUET:
            tables += parquet.kept_types(inner, storage, members, from_folders)
        else:
            fields = _MODULES[format].keep_fields(inner, storage, members, from_folders)
            untyped += [(members[0][1], field) for field in fields]
    names = {name: None for name, _ in folders} | {field.name: None for _, field in untyped}
    schemas = [pa.schema([(name, pa.string()) for name in names]), *(schema for _, _, schema in tables)]
    keep = [_common(name, schemas) for name in config.keep] if run is None else list(run)
    parquet.check_values(storage, tables, keep)
    wanted = {field.name: field for field in keep}
    for source, field in untyped:
        if not always_fits(field.type, wanted[field.name].type):
            raise misfit(wanted[field.name], source, field.type)
    for (name, value), source in folders.items():
        if not values_fit(pa.array([value], pa.string()), wanted[name].type):
            raise misfit(wanted[name], source, pa.string())
    return keep


def schema_of(config: InputConfig, storage: Storage, file: Entry) -> pa.Schema:
    """The columns of a file, without those in its folders; text if the format has no types.

    Raises:
        RowError: it cannot be read.
    """
    format = format_of(config, file)
    if format == PARQUET:
        return parquet.schema_of(storage, file)
    return pa.schema([(name, pa.string()) for name in _MODULES[format].names(config, storage, file)])


def cut(
    config: InputConfig, storage: Storage, files: Iterable[Entry], shard_bytes: int, base: str | None = None
) -> Iterator[Shard]:
    """The shards of these files, lazily and in input order.

    Args:
        files: some or all of `list_files`.
        shard_bytes: about how many bytes of text or images a shard has; a larger record or file of one is not split.
        base: the folder that sources are relative to; None for `input_base`.
    Raises:
        ConfigError: a file lacks a named column.
        InputChanged: a file differs from the listing.
    """
    return joined(config, pieces(config, storage, files, shard_bytes, base), shard_bytes)


def pieces(
    config: InputConfig, storage: Storage, files: Iterable[Entry], shard_bytes: int, base: str | None = None
) -> Iterator[Slice]:
    """The slices that `cut` joins. Those of image files and manifests do not depend on `shard_bytes`."""
    base = input_base(config) if base is None else base
    # A folder may have the images of several manifests.
    listed = cache(images.listing)
    for entry in files:
        format, source = format_of(config, entry), source_of(entry, base)
        module, inner = _MODULES[format], without(config, kept_of(config, source))
        stores_images = format == IMAGE or (format == PARQUET and parquet.has_images(inner, storage, entry))
        if config.reads == IMAGES and not stores_images:
            yield from images.studies(inner, storage, entry, source, module, format, listed)
        else:
            yield from module.cut(inner, storage, entry, source, shard_bytes)


def joined(config: InputConfig, slices: Iterable[Slice], shard_bytes: int) -> Iterator[Shard]:
    """The shards of slices, with about `shard_bytes` bytes each."""
    most = MOST_STUDIES if config.reads == IMAGES else _MOST_SLICES
    pending: list[Slice] = []
    size = count = 0
    for piece in slices:
        # Every slice costs something to open, and every image to prepare.
        cost = piece.rows if config.reads == IMAGES else 1
        if pending and (size + piece.bytes > shard_bytes or count + cost > most):
            yield _shard(pending)
            pending, size, count = [], 0, 0
        pending.append(piece)
        size, count = size + piece.bytes, count + cost
    if pending:
        yield _shard(pending)


def read(config: InputConfig, storage: Storage, shard: Shard, keep: Sequence[pa.Field]) -> pa.Table:
    """The records of a shard, broken ones included, in input order.

    Args:
        keep: as `keep_fields` returned it for the whole input.
    Returns:
        A table of `records_schema(keep)`, or of images. An image has its bytes only if a table holds them; else
        `images.image_bytes` opens its file.
    Raises:
        InputChanged: a file differs from the plan.
        RetryableError: a file that could be read at planning cannot be read now.
    """
    tables = []
    for folder_values, pieces in grouped(config, shard.slices):
        inner = [field for field in keep if field.name not in folder_values]
        table = _read(without(config, folder_values), storage, pieces, inner)
        tables.append(with_values(table, folder_values, keep) if folder_values else table)
    if len(tables) == 1:
        return tables[0]
    table = pa.concat_tables(tables)
    index = table.schema.get_field_index("row")
    return table.set_column(index, table.schema.field(index), pa.array(range(len(table)), pa.int32()))


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
    kinds = [schema.field(name).type for schema in schemas if name in schema.names]
    return pa.field(name, result_type(reduce(partial(common_type, name), kinds, pa.null())))


def _check_broken(storage: Storage, piece: Slice) -> None:
    """InputChanged if a broken file was repaired since the plan."""
    try:
        with storage.open(piece.file.path, piece.file) as stream:
            # An object store checks the version on a read.
            stream.read(1)
    except OSError as error:
        unreadable(piece.file.path, error)


def _shard(slices: Sequence[Slice]) -> Shard:
    return Shard(tuple(slices), sum(piece.rows for piece in slices), sum(piece.bytes for piece in slices))
