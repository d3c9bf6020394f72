"""Arrays of different lengths as a list column, and back."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def list_values(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """The rows of a list column as arrays, null as None."""
    rows: list[np.ndarray | None] = []
    for chunk in column.chunks:
        offsets, values = chunk.offsets.to_numpy(), chunk.values.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        rows += [values[a:b] if ok else None for a, b, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)]
    return rows


def lists(arrays: Sequence[np.ndarray | None], kind: type[np.integer] = np.int32) -> pa.Array:
    """Arrays of whole numbers as a list column of that `kind`; None is null."""
    offsets = np.cumsum([0, *(0 if a is None else len(a) for a in arrays)])
    values = np.concatenate([a for a in arrays if a is not None] or [np.empty(0, kind)]).astype(kind)
    missing = np.array([a is None for a in arrays], dtype=bool)
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pa.array(values), mask=pa.array(missing) if len(missing) else None
    )


def matrix_column(values: np.ndarray) -> pa.Array:
    """Rows of numbers [n, k] as a column of n lists."""
    count, width = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * width, pa.int32()), pa.array(values.reshape(-1)))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of equal length as rows of numbers [n, k]; [0, 0] for an empty column."""
    rows = list_values(column)
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
