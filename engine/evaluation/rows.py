"""The rows of a result table, from its files or from memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.sources.labelled.values import as_text
from engine.storage import storage_for

_MOST_PARTS, LONGEST_PART = 1000, 100
_FEW = "with few different values"
Rows = pa.Table | Sequence[str]
"""A table, or its files."""


def schema_of(rows: Rows) -> pa.Schema:
    """The columns of the table."""
    if isinstance(rows, pa.Table):
        return rows.schema
    with storage_for(rows[0]).open(rows[0]) as stream:
        return pq.read_schema(stream)


def selected(rows: Rows, columns: Sequence[str], ids: pa.Array | None = None) -> pa.Table:
    """Some columns of the rows, in the order of the rows; files are read batch by batch.

    Args:
        ids: take the rows with these ids only.
    """
    tables = [rows.select(columns)] if isinstance(rows, pa.Table) else _batches(rows, columns)
    return pa.concat_tables(
        table if ids is None else table.filter(pc.is_in(table["record_id"], value_set=ids)) for table in tables
    )


def _batches(files: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    for file in files:
        with storage_for(file).open(file) as stream:
            parquet = pq.ParquetFile(stream)
            yield parquet.schema_arrow.empty_table().select(columns)
            for batch in parquet.iter_batches(columns=columns):
                yield pa.Table.from_batches([batch]).select(columns)


def check_parts(name: str, column: pa.ChunkedArray | pl.Series, key: str = "slices") -> pa.ChunkedArray:
    """The values of a column as strings. They appear in tables and pages, where no text of a record may appear.

    Args:
        key: the user's name for the setting that names the column.
    Raises:
        ConfigError: there are too many different values, they are too long, or they are lists.
    """
    column = as_text(column.to_arrow() if isinstance(column, pl.Series) else column)
    different = pc.count_distinct(column).as_py()
    if different > _MOST_PARTS:
        raise ConfigError(f"{key}: column '{name}' has {different:,} different values; name one {_FEW}")
    check_length(key, name, column, LONGEST_PART, _FEW)
    return column


def check_length(key: str, name: str, values: pa.ChunkedArray, most: int, wanted: str) -> None:
    """Sees that values which are shown are not texts by mistake.

    Raises:
        ConfigError: a value is longer than `most` characters; the message asks for a column that is as `wanted`.
    """
    longest = pc.max(pc.utf8_length(values)).as_py() or 0
    if longest > most:
        raise ConfigError(f"{key}: column '{name}' has values of up to {longest:,} characters; name one {wanted}")


def texts_of(column: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] strings, "" for null."""
    return np.array(pl.Series(column).fill_null("").to_list(), dtype=str)


def numbers_of(column: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] float64, NaN for null."""
    return pl.Series(column).cast(pl.Float64).to_numpy()


def grouped(groups: pa.ChunkedArray | pl.Series, ids: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] the unit that a resample draws whole: the row's group, or the row itself if it has none."""
    both = pl.DataFrame({"group": pl.Series(groups), "id": pl.Series(ids)})
    return both.select(pl.coalesce("group " + pl.col("group"), "record " + pl.col("id"))).to_series().to_numpy().astype(str)


QUARTERS = ("q1 shortest", "q2", "q3", "q4 longest")


def quarters(lengths: NDArray) -> NDArray:
    """The quarter by length of each row, "" where its length is unknown (NaN)."""
    known = lengths[~np.isnan(lengths)]
    if not known.size:
        return np.full(lengths.shape, "")
    cuts = np.quantile(known, [0.25, 0.5, 0.75])
    quarter = np.array(QUARTERS)[np.searchsorted(cuts, np.nan_to_num(lengths), side="left")]
    return np.where(np.isnan(lengths), "", quarter)
