"""Parquet: cut along row groups, or into ranges of rows within a large one; only the named columns are read."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError, RowError
from engine.sources.base import (
    PARQUET,
    InputConfig,
    Rows,
    Slice,
    interrupted,
    require_columns,
    unreadable,
)
from engine.sources.kept import cast_kept, fits, holds, is_bytes, is_text, misfit, plain, without_nan
from engine.sources.partitions import folder_columns, refuse_doubled
from engine.storage import Entry, Storage, storage_for

# A range is found by decoding its row group from the start, so k ranges decode it about k/2 times.
_MOST_RANGES = 64
# Where a dictionary makes equal texts look free, a row still costs something.
_LEAST_ROW = 64
_BATCH_BYTES = 8 << 20
_MOST_BATCH = 4096
_BUFFER = 1 << 20


def kept(
    config: InputConfig, storage: Storage, files: Sequence[tuple[Entry, str]], given: Sequence[str] = ()
) -> list[tuple[Entry, str, pa.Schema]]:
    """Each readable file with the types of its kept columns; checks every schema, and columns of floats by their values.

    Raises:
        ConfigError: a column is missing, or cannot be text or ids.
    """
    found = []
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
        refuse_doubled((n for n in given if n in schema.names and not _is_all(metadata, n, folders[n])), given, source)
        kinds = [pa.field(name, plain(schema.field(name).type)) for name in config.keep]
        found.append((file, source, pa.schema(kinds)))
    return found


def check_kept(storage: Storage, files: Sequence[tuple[Entry, str, pa.Schema]], keep: Sequence[pa.Field]) -> None:
    """Checks that the files' values can stand in the result as they are; reads the columns whose types do not tell.

    Args:
        files: what `kept` gave.
    Raises:
        ConfigError: a column has another type than the result's, and a value of it would be lost.
    """
    wanted = {field.name: field for field in keep}
    for file, source, kinds in files:
        for theirs in kinds:
            field = wanted[theirs.name]
            if not holds(field.type, theirs.type) and not _fits(storage, file, field):
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


def cut(config: InputConfig, storage: Storage, file: Entry, source: str, shard_bytes: int) -> Iterator[Slice]:
    """The slices of one file, in order, from its footer alone."""
    try:
        with storage.open(file.path, file) as stream:
            parquet = _open(file, stream)
            _require(config, source, parquet.schema_arrow)
            groups = _groups(parquet.metadata, config.text)
    except (OSError, RowError) as error:
        broken = unreadable(file.path, error) if isinstance(error, OSError) else error
        yield Slice(PARQUET, file, source, 1, file.size, broken=broken.detail)
        return
    position = 0
    waiting: list[tuple[int, int, int]] = []
    for group, rows, size in groups:
        if waiting and sum(w[2] for w in waiting) + size > shard_bytes:
            yield _joined(file, source, waiting, position)
            position += sum(w[1] for w in waiting)
            waiting = []
        if size <= shard_bytes:
            waiting.append((group, rows, size))
            continue
        pieces = min(_MOST_RANGES, ceil(size / shard_bytes), rows)
        bounds = [rows * i // pieces for i in range(pieces + 1)]
        for start, stop in pairwise(bounds):
            count = stop - start
            yield Slice(PARQUET, file, source, count, size * count // rows, start, stop, position, group, 1)
            position += count
    if waiting or not position:
        yield _joined(file, source, waiting, position)


def read(config: InputConfig, storage: Storage, piece: Slice, rows: Rows, keep: Sequence[pa.Field]) -> None:
    """Adds the records of a slice; what cannot be decoded of it becomes one failed record a row."""
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


def whole(
    path: str, told: str, columns: Sequence[str] | None = None, expect: Entry | None = None, key: str | None = None
) -> pa.Table:
    """All rows of a file at once, for what is made by hand and small.

    Raises:
        ConfigError: there is no such file or its content is broken, in the words of `told`.
        InputChanged: it is not what was expected.
    """
    try:
        with storage_for(path).open(path, expect) as stream:
            return pq.read_table(stream, columns=columns)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(told, key) from None
    except (pa.ArrowException, OSError) as error:
        _corrupt(error)
        raise ConfigError(told, key) from None


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
    texts = [None] * count if config.text is None else _values(batch.column(config.text))
    ids = [None] * count if config.id is None else _values(batch.column(config.id))
    kept, unclean = [], [False] * count
    for field in keep:
        array, bad = _valid_kept(batch.column(field.name))
        kept.append(cast_kept(array, field))
        for i in bad:
            unclean[i] = True
    for i in range(count):
        rows.add(source, position + i, ids[i], texts[i], unclean=unclean[i])
    rows.keep_arrays(kept)


def _values(array: pa.Array) -> list[Any]:
    """Strings as their bytes, which may not be valid UTF-8, UUIDs and decimals as they are written, anything else as it is."""
    if isinstance(array.type, pa.UuidType):
        return [None if value is None else str(value) for value in array.to_pylist()]
    array = _decoded(array)
    if pa.types.is_decimal(array.type):
        return array.cast(pa.string()).to_pylist()
    return (array.cast(pa.large_binary()) if is_text(array.type) else array).to_pylist()


def _valid(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """The array with null for each value that holds invalid UTF-8, and the numbers of those."""
    try:
        array.validate(full=True)
        return array, []
    except pa.ArrowException:
        values, bad = [], []
        for i, value in enumerate(array):
            try:
                values.append(value.as_py())
            except UnicodeDecodeError:
                values.append(None)
                bad.append(i)
        return pa.array(values, array.type), bad


def _decoded(array: pa.Array) -> pa.Array:
    return array.cast(plain(array.type))


def _require(config: InputConfig, source: str, schema: pa.Schema) -> None:
    """Columns that are there, with types that can be texts and ids; else ConfigError. Floats are for `_require_values`."""
    require_columns(config, source, schema.names)
    kind = pa.null() if config.text is None else plain(schema.field(config.text).type)
    if not (is_text(kind) or is_bytes(kind) or pa.types.is_null(kind) or pa.types.is_floating(kind)):
        raise _no_text(config, source, kind)
    if config.id is not None and not _can_be_ids(schema.field(config.id).type):
        raise _no_ids(config, source, schema.field(config.id).type)


def _can_be_ids(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.UuidType):
        return True
    kind = plain(kind)
    if pa.types.is_decimal(kind):
        return kind.scale == 0
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return number or is_text(kind) or is_bytes(kind) or pa.types.is_null(kind)


def _require_values(config: InputConfig, source: str, parquet: pq.ParquetFile) -> None:
    """Floats where text or ids belong are how pandas writes what is missing, and whole numbers beside it; else ConfigError."""
    kind = pa.null() if config.text is None else plain(parquet.schema_arrow.field(config.text).type)
    if pa.types.is_floating(kind) and any(array.null_count < len(array) for array in _column(parquet, config.text)):
        raise _no_text(config, source, kind)
    kind = None if config.id is None else plain(parquet.schema_arrow.field(config.id).type)
    if kind is None or not pa.types.is_floating(kind):
        return
    # From there on not every whole number is one of the type, so that digits may have been lost.
    end = 2 ** {16: 11, 32: 24, 64: 53}[kind.bit_width]
    for array in _column(parquet, config.id):
        values = array.drop_null().cast(pa.float64())
        if not pc.all(pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), end)), min_count=0).as_py():
            raise _no_ids(config, source, kind, f", and not all of it whole numbers below {end:,}")


def _no_text(config: InputConfig, source: str, kind: pa.DataType) -> ConfigError:
    return ConfigError(f"input.text: column '{config.text}' of {source} is {kind}, not text; name another column")


def _no_ids(config: InputConfig, source: str, kind: pa.DataType, more: str = "") -> ConfigError:
    return ConfigError(
        f"input.id: column '{config.id}' of {source} is {kind}{more}; ids are text or whole numbers: write the column as text, "
        "or leave input.id out"
    )


def _fits(storage: Storage, file: Entry, field: pa.Field) -> bool:
    """Whether each value of a kept column can be read in the type of the result."""
    try:
        with storage.open(file.path, file) as stream:
            return all(fits(array, field.type) for array in _column(_open(file, stream), field.name))
    except OSError as error:
        raise interrupted(file.path, error) from None


def _column(parquet: pq.ParquetFile, name: str) -> Iterator[pa.Array]:
    """The readable values of a column as they are kept; what is damaged becomes failed records later."""
    for group in range(parquet.num_row_groups):
        try:
            for batch in parquet.iter_batches(_MOST_BATCH, row_groups=[group], columns=[name], use_threads=False):
                yield _valid_kept(batch.column(name))[0]
        except (pa.ArrowException, OSError) as error:
            _corrupt(error)


def _valid_kept(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """A column's values with null for NaN and for invalid UTF-8, and the numbers of the latter."""
    array, bad = _valid(_decoded(array))
    return without_nan(array), bad


def _groups(metadata: pq.FileMetaData, text: str | None) -> list[tuple[int, int, int]]:
    """Number, rows and bytes of text of each row group that has rows; without a text, each row counts for a few bytes.

    Raises:
        RowError: the footer contradicts itself; a wrong count of rows would become as many failed records.
    """
    leaf = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == text), None)
    groups = []
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        rows, column = chunks.num_rows, None if leaf is None else chunks.column(leaf)
        if rows < 0 or (column is not None and column.num_values != rows):
            raise RowError("unreadable_file", "rows do not add up")
        if rows:
            size = 0 if column is None else column.total_uncompressed_size
            groups.append((group, rows, max(size, _LEAST_ROW * rows)))
    if sum(rows for _, rows, _ in groups) != metadata.num_rows:
        raise RowError("unreadable_file", "rows do not add up")
    return groups


def _is_all(metadata: pq.FileMetaData, name: str, value: str | None) -> bool:
    """Whether the footer proves that a column is this value, as text, in every row."""
    leaves = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name]
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(leaf) for leaf in leaves]
        known = chunks[0].statistics if chunks else None
        if known is None or not known.has_null_count:
            return False
        if value is None:
            same = known.null_count == chunks[0].num_values
        else:
            same = known.null_count == 0 and known.has_min_max and _shown(known) == (value, value)
        if not same:
            return False
    return True


def _shown(known: pq.Statistics) -> tuple[str, str] | None:
    try:
        return str(known.min), str(known.max)
    except UnicodeDecodeError:
        return None


def _joined(file: Entry, source: str, groups: Sequence[tuple[int, int, int]], position: int) -> Slice:
    """Whole row groups that follow each other, empty ones between them included; no groups make an empty slice."""
    if not groups:
        return Slice(PARQUET, file, source, 0, 0)
    rows, first, last = sum(g[1] for g in groups), groups[0][0], groups[-1][0]
    return Slice(PARQUET, file, source, rows, sum(g[2] for g in groups), 0, rows, position, first, last - first + 1)


def _open(file: Entry, stream: BinaryIO) -> pq.ParquetFile:
    """The file, its footer read; RowError if that is broken."""
    try:
        parquet = pq.ParquetFile(stream, buffer_size=_BUFFER, page_checksum_verification=True)
        # Names that are not UTF-8 are found here, and not where they are first used.
        _ = parquet.schema_arrow.names, [parquet.schema.column(i).path for i in range(len(parquet.schema))]
        return parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _corrupt(error) from None


def _corrupt(error: Exception) -> RowError:
    """Broken content as a RowError; an error of the file system, which has a number, or want of memory is raised as it is."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error
    return RowError("unreadable_file", type(error).__name__)
