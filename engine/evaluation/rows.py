"""The rows of a result table, read from its files or handed in as they are."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.storage import storage_for

Rows = pa.Table | Sequence[str]
"""A table, or the files that it lies in."""


def schema_of(rows: Rows) -> pa.Schema:
    """The columns of the table."""
    if isinstance(rows, pa.Table):
        return rows.schema
    with storage_for(rows[0]).open(rows[0]) as stream:
        return pq.read_schema(stream)


def selected(rows: Rows, columns: Sequence[str], ids: pa.Array | None = None) -> pa.Table:
    """Some columns of the rows, in their order.

    Args:
        ids: take the rows with these ids only; files are read batch by batch.
    """

    def kept(table: pa.Table) -> pa.Table:
        return table if ids is None else table.filter(pc.is_in(table["record_id"], value_set=ids))

    if isinstance(rows, pa.Table):
        return kept(rows.select(columns))
    return pa.concat_tables([kept(table) for table in _batches(rows, columns)])


def _batches(files: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    for file in files:
        with storage_for(file).open(file) as stream:
            parquet = pq.ParquetFile(stream)
            yield parquet.schema_arrow.empty_table().select(columns)
            for batch in parquet.iter_batches(columns=columns):
                yield pa.Table.from_batches([batch]).select(columns)


def texts_of(column: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] texts, "" for null."""
    return np.array(series_of(column).fill_null("").to_list(), dtype=str)


def numbers_of(column: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] float64, NaN for null."""
    return series_of(column).cast(pl.Float64).to_numpy()


def series_of(column: pa.ChunkedArray | pl.Series) -> pl.Series:
    return column if isinstance(column, pl.Series) else pl.Series(column)


def grouped(groups: pa.ChunkedArray | pl.Series, ids: pa.ChunkedArray | pl.Series) -> NDArray:
    """[rows] the unit that a resample draws whole: the row's group; a row without one is a unit of its own."""
    both = pl.DataFrame({"group": series_of(groups), "id": series_of(ids)})
    return both.select(pl.coalesce("group " + pl.col("group"), "record " + pl.col("id"))).to_series().to_numpy().astype(str)


QUARTERS = ("q1 shortest", "q2", "q3", "q4 longest")


def quarters(lengths: NDArray) -> NDArray:
    """Which quarter by length each row lies in, "" where its length is not known (NaN)."""
    known = lengths[~np.isnan(lengths)]
    if not known.size:
        return np.full(lengths.shape, "")
    cuts = np.quantile(known, [0.25, 0.5, 0.75])
    quarter = np.array(QUARTERS)[np.searchsorted(cuts, np.nan_to_num(lengths), side="left")]
    return np.where(np.isnan(lengths), "", quarter)
