"""Parquet: cut along row groups, or into ranges of rows within a large one; only the named columns are read."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError, RowError
from engine.records import IMAGES
from engine.sources.base import MOST_STUDIES, PARQUET, InputConfig, Slice, interrupted, require_columns, unreadable
from engine.sources.column_types import (
    always_fits,
    cast_column,
    holds_images,
    is_bytes,
    is_text,
    misfit,
    value_type,
    values_fit,
    without_nan,
)
from engine.sources.images import images_of
from engine.sources.partitions import folder_columns, refuse_doubled
from engine.sources.rows import Rows
from engine.storage import Entry, Storage, storage_for

# Reading a range decodes its row group from the start, so k ranges decode it about k/2 times.
_MOST_RANGES = 64
# Bytes that a row counts at least; in a dictionary equal texts seem to cost nothing.
_LEAST_ROW = 64
_BATCH_BYTES = 8 << 20
_MOST_BATCH = 4096
_BUFFER = 1 << 20


def kept_types(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], from_folders: Sequence[str] = ()
) -> list[tuple[Entry, str, pa.Schema]]:
    """Each readable file with the types of its kept columns; checks every schema, and columns of floats by their values.

    Args:
        from_folders: the kept columns in the folders of these files.
    Raises:
        ConfigError: a column is missing, or cannot be text or ids.
    """
    tables = []
    for file, source in files:
        try:
            with storage.open(file.path, file) as stream:
                parquet = _open(file, stream)
                _require(config, source, parquet.schema_arrow)
                _require_values(config, source, parquet)
        except RowError:
            continue
        except OSError as error:
            unreadable(file.path, error)
            continue
        schema, metadata, folders = parquet.schema_arrow, parquet.metadata, dict(folder_columns(source))
        refuse_doubled(
            (n for n in from_folders if n in schema.names and not _is_constant(metadata, n, folders[n])), from_folders, source
        )
        types = pa.schema([(name, value_type(schema.field(name).type)) for name in config.keep])
        tables.append((file, source, types))
    return tables


def check_values(storage: Storage, tables: Sequence[tuple[Entry, str, pa.Schema]], keep: Sequence[pa.Field]) -> None:
    """Checks that the values of each table fit the types of the result; reads the columns whose types do not tell.

    Args:
        tables: as `kept_types` returned them.
    Raises:
        ConfigError: a value would be lost in the result's type.
    """
    wanted = {field.name: field for field in keep}
    for file, source, types in tables:
        for theirs in types:
            field = wanted[theirs.name]
            if not always_fits(theirs.type, field.type) and not _fits(storage, file, field):
                raise misfit(field, source, theirs.type)


def schema_of(storage: Storage, file: Entry) -> pa.Schema:
    """The columns of a file.

    Raises:
        RowError: its footer cannot be read.
    """
    try:
        with storage.open(file.path, file) as stream:
            return _open(file, stream).schema_arrow
    except OSError as error:
        raise unreadable(file.path, error) from None


def has_images(config: InputConfig, storage: Storage, file: Entry) -> bool:
    """Whether a table of images holds their bytes; False for an unreadable file."""
    try:
        return _has_images(config, schema_of(storage, file))
    except RowError:
        return False


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The slices of one file, in order, from its footer alone."""
    try:
        with storage.open(file.path, file) as stream:
            parquet = _open(file, stream)
            _require(config, source, parquet.schema_arrow)
            groups = _groups(parquet.metadata, config.payload)
            most = MOST_STUDIES if _has_images(config, parquet.schema_arrow) else parquet.metadata.num_rows
    except (OSError, RowError) as error:
        broken = unreadable(file.path, error) if isinstance(error, OSError) else error
        yield Slice(PARQUET, file, source, 1, file.size, broken=broken.detail)
        return
    position = 0
    pending: list[tuple[int, int, int]] = []
    for group, rows, size in groups:
        if pending and (sum(each[2] for each in pending) + size > shard_bytes or sum(each[1] for each in pending) + rows > most):
            yield _joined(file, source, pending, position)
            position += sum(each[1] for each in pending)
            pending = []
        if size <= shard_bytes and rows <= most:
            pending.append((group, rows, size))
            continue
        pieces = min(_MOST_RANGES, max(ceil(size / shard_bytes), ceil(rows / most)), rows)
        for start, stop in pairwise(rows * i // pieces for i in range(pieces + 1)):
            count = stop - start
            yield Slice(PARQUET, file, source, count, size * count // rows, start, stop, position, group, 1)
            position += count
    if pending or not position:
        yield _joined(file, source, pending, position)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the records of a slice; each row that cannot be decoded becomes a failed record."""
    done = 0
    try:
        with storage.open(piece.file.path, piece.file) as stream:
            for batch in _batches(config, piece, stream):
                _add(config, piece.source, piece.position + done, batch, rows, keep)
                done += batch.num_rows
    except pa.ArrowMemoryError:
        raise
    except (RowError, pa.ArrowException) as error:
        failure = error if isinstance(error, RowError) else _corrupt(error)
        for position in range(piece.position + done, piece.position + piece.rows):
            rows.fail(piece.source, position, failure)
    except OSError as error:
        raise interrupted(piece.file.path, error) from None


def read_table(path: str, message: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a small file.

    Raises:
        ConfigError: there is no such file or its content is broken, with `message`.
    """
    try:
        with storage_for(path).open(path) as stream:
            return pq.read_table(stream, columns=columns)
    except (pa.ArrowException, OSError) as error:
        if not isinstance(error, FileNotFoundError | IsADirectoryError):
            _corrupt(error)
        raise ConfigError(message) from None


def _batches(config: InputConfig, piece: Slice, stream: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The slice's rows, a few MB at a time.

    Raises:
        RowError: pages are broken.
    """
    if not piece.rows:
        return
    parquet = _open(piece.file, stream)
    _require(config, piece.source, parquet.schema_arrow)
    size = min(_MOST_BATCH, max(1, _BATCH_BYTES * piece.rows // max(piece.bytes, 1)))
    groups = list(range(piece.group, piece.group + piece.groups))
    at = 0
    try:
        for batch in parquet.iter_batches(size, row_groups=groups, columns=list(config.columns), use_threads=False):
            first, last = max(piece.start - at, 0), min(piece.stop - at, batch.num_rows)
            at += batch.num_rows
            if first < last:
                yield batch.slice(first, last - first)
            if at >= piece.stop:
                return
    except (pa.ArrowException, OSError) as error:
        raise _corrupt(error) from None
    raise RowError("unreadable_file", "rows are missing")


def _add(config: InputConfig, source: str, position: int, batch: pa.RecordBatch, rows: Rows, keep: Sequence[pa.Field]) -> None:
    count = batch.num_rows
    if config.payload is None:
        payloads = [None] * count
    elif _has_images(config, batch.schema):
        payloads = [images_of(cell, f"{source}:{position + i}") for i, cell in enumerate(batch.column(config.payload))]
    else:
        payloads = _values(batch.column(config.payload))
    ids = [None] * count if config.id is None else _values(batch.column(config.id))
    arrays, invalid_rows = [], set()
    for field in keep:
        array, invalid = _clean(batch.column(field.name))
        arrays.append(cast_column(array, field))
        invalid_rows.update(invalid)
    for i in range(count):
        rows.add(source, position + i, ids[i], payloads[i], invalid_keep=i in invalid_rows)
    rows.keep_arrays(arrays)


def _values(array: pa.Array) -> list[Any]:
    """Strings as bytes, which may be invalid UTF-8, UUIDs and decimals as they are written, other values unchanged."""
    if isinstance(array.type, pa.UuidType):
        return [None if value is None else str(value) for value in array.to_pylist()]
    array = array.cast(value_type(array.type))
    if pa.types.is_decimal(array.type):
        return array.cast(pa.string()).to_pylist()
    return (array.cast(pa.large_binary()) if is_text(array.type) else array).to_pylist()


def _has_images(config: InputConfig, schema: pa.Schema) -> bool:
    """Whether the column of images has their bytes."""
    return config.reads == IMAGES and config.image in schema.names and holds_images(schema.field(config.image).type)


def _clean(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """The values of a kept column with null for NaN and invalid UTF-8, and the numbers of the latter."""
    array, invalid = array.cast(value_type(array.type)), []
    try:
        array.validate(full=True)
    except pa.ArrowException:
        values = []
        for i, value in enumerate(array):
            try:
                values.append(value.as_py())
            except UnicodeDecodeError:
                values.append(None)
                invalid.append(i)
        array = pa.array(values, array.type)
    return without_nan(array), invalid


def _require(config: InputConfig, source: str, schema: pa.Schema) -> None:
    """ConfigError if a column is missing or its type cannot be texts or ids; floats are left to `_require_values`."""
    require_columns(config, source, schema.names)
    kind = pa.null() if config.payload is None else value_type(schema.field(config.payload).type)
    if config.study is not None and _has_images(config, schema):
        raise ConfigError(
            f"input.study: {source} holds the images themselves; write one row a study, with a list of its images, and leave "
            "input.study out"
        )
    if config.study is not None and not _can_be_ids(schema.field(config.study).type):
        raise _no_ids("study", config.study, source, schema.field(config.study).type)
    is_allowed = is_text(kind) or is_bytes(kind) or pa.types.is_null(kind) or pa.types.is_floating(kind)
    if not is_allowed and not _has_images(config, schema):
        raise _no_text(config, source, kind)
    if config.id is not None and not _can_be_ids(schema.field(config.id).type):
        raise _no_ids("id", config.id, source, schema.field(config.id).type)


def _can_be_ids(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.UuidType):
        return True
    kind = value_type(kind)
    if pa.types.is_decimal(kind):
        return kind.scale == 0
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number or is_text(kind) or is_bytes(kind) or pa.types.is_null(kind)


def _require_values(config: InputConfig, source: str, parquet: pq.ParquetFile) -> None:
    """ConfigError if a column of floats has more than nulls for texts or whole numbers for ids, which are pandas' nulls."""
    kind = pa.null() if config.payload is None else value_type(parquet.schema_arrow.field(config.payload).type)
    if pa.types.is_floating(kind) and any(array.null_count < len(array) for array in _column(parquet, config.payload)):
        raise _no_text(config, source, kind)
    kind = pa.null() if config.id is None else value_type(parquet.schema_arrow.field(config.id).type)
    if not pa.types.is_floating(kind):
        return
    # From here on the type cannot hold every whole number, so digits may have been lost.
    end = 2 ** {16: 11, 32: 24, 64: 53}[kind.bit_width]
    for array in _column(parquet, config.id):
        values = array.drop_null().cast(pa.float64())
        if not pc.all(pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), end)), min_count=0).as_py():
            raise _no_ids("id", config.id, source, kind, f", and not all of it whole numbers below {end:,}")


def _no_text(config: InputConfig, source: str, kind: pa.DataType) -> ConfigError:
    key, wanted = ("image", "neither paths nor bytes") if config.reads == IMAGES else ("text", "not text")
    return ConfigError(f"input.{key}: column '{config.payload}' of {source} is {kind}, {wanted}; name another column")


def _no_ids(key: str, column: str, source: str, kind: pa.DataType, more: str = "") -> ConfigError:
    return ConfigError(
        f"input.{key}: column '{column}' of {source} is {kind}{more}; ids are text or whole numbers: write the column as text, "
        f"or leave input.{key} out"
    )


def _fits(storage: Storage, file: Entry, field: pa.Field) -> bool:
    """Whether each value of a kept column can be read in the type of the result."""
    try:
        with storage.open(file.path, file) as stream:
            return all(values_fit(array, field.type) for array in _column(_open(file, stream), field.name))
    except OSError as error:
        raise interrupted(file.path, error) from None


def _column(parquet: pq.ParquetFile, name: str) -> Iterator[pa.Array]:
    """The readable values of a kept column; damaged ones become failed records later."""
    for group in range(parquet.num_row_groups):
        try:
            for batch in parquet.iter_batches(_MOST_BATCH, row_groups=[group], columns=[name], use_threads=False):
                yield _clean(batch.column(name))[0]
        except (pa.ArrowException, OSError) as error:
            _corrupt(error)


def _groups(metadata: pq.FileMetaData, payload: str | None) -> list[tuple[int, int, int]]:
    """Number, rows and bytes of text or images of each row group with rows; each row counts at least a few bytes.

    Raises:
        RowError: the footer contradicts itself; a wrong row count would become as many failed records.
    """
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    # A nested column has several leaves, and a list's has other numbers of values.
    leaves = [] if payload is None else [i for i, path in enumerate(paths) if path == payload or path.startswith(f"{payload}.")]
    groups = []
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        rows, columns = chunks.num_rows, [chunks.column(i) for i in leaves]
        if rows < 0 or any(paths[i] == payload and chunks.column(i).num_values != rows for i in leaves):
            raise RowError("unreadable_file", "rows do not add up")
        if rows:
            size = sum(column.total_uncompressed_size for column in columns)
            groups.append((group, rows, max(size, _LEAST_ROW * rows)))
    if sum(rows for _, rows, _ in groups) != metadata.num_rows:
        raise RowError("unreadable_file", "rows do not add up")
    return groups


def _is_constant(metadata: pq.FileMetaData, name: str, value: str | None) -> bool:
    """Whether the footer proves that a column has this value, as text, in every row."""
    leaf = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name), None)
    for group in range(metadata.num_row_groups):
        column = None if leaf is None else metadata.row_group(group).column(leaf)
        statistics = column and column.statistics
        if statistics is None or not statistics.has_null_count:
            return False
        if value is None:
            constant = statistics.null_count == column.num_values
        else:
            constant = statistics.null_count == 0 and statistics.has_min_max and _bounds(statistics) == (value, value)
        if not constant:
            return False
    return True


def _bounds(statistics: pq.Statistics) -> tuple[str, str] | None:
    try:
        return str(statistics.min), str(statistics.max)
    except UnicodeDecodeError:
        return None


def _joined(file: Entry, source: str, groups: Sequence[tuple[int, int, int]], position: int) -> Slice:
    """A slice of consecutive row groups, with empty ones between them; an empty slice without groups."""
    if not groups:
        return Slice(PARQUET, file, source, 0, 0)
    rows, size = sum(group[1] for group in groups), sum(group[2] for group in groups)
    first, last = groups[0][0], groups[-1][0]
    return Slice(PARQUET, file, source, rows, size, 0, rows, position, first, last - first + 1)


def _open(file: Entry, stream: BinaryIO) -> pq.ParquetFile:
    """The file with its footer read; RowError if that is broken."""
    try:
        parquet = pq.ParquetFile(stream, buffer_size=_BUFFER, page_checksum_verification=True)
        # Names that are not UTF-8 fail here rather than at their first use.
        _ = parquet.schema_arrow.names, [parquet.schema.column(i).path for i in range(len(parquet.schema))]
        return parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _corrupt(error) from None


def _corrupt(error: Exception) -> RowError:
    """A RowError for broken content; reraises a lack of memory and errors of the file system, which have a number."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error
    return RowError("unreadable_file", type(error).__name__)
