"""Rows from files or as they are, and their columns as arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.evaluation.rows import grouped, numbers_of, quarters, schema_of, selected, texts_of

TABLE = pa.table({"record_id": ["a", "b", "c"], "n": pa.array([1, None, 3], pa.int32()), "kept": ["x", None, "z"]})


@pytest.fixture(params=["table", "files"])
def rows(request, tmp_path):
    if request.param == "table":
        return TABLE
    for number in range(3):
        pq.write_table(TABLE.slice(number, 1), tmp_path / f"{number}.parquet")
    return [str(tmp_path / f"{number}.parquet") for number in range(3)]


def test_some_rows_and_columns_in_their_order(rows):
    assert schema_of(rows).names == TABLE.column_names
    assert selected(rows, ["kept", "record_id"]).to_pydict() == {"kept": ["x", None, "z"], "record_id": ["a", "b", "c"]}
    assert selected(rows, ["record_id", "n"], pa.array(["c", "q", "a"])).to_pydict() == {"record_id": ["a", "c"], "n": [1, 3]}
    assert len(selected(rows, ["record_id"], pa.array(["q"]))) == 0


def test_columns_as_arrays():
    assert texts_of(TABLE["kept"]).tolist() == ["x", "", "z"]
    np.testing.assert_equal(numbers_of(TABLE["n"]), [1.0, np.nan, 3.0])
    assert grouped(TABLE["kept"], TABLE["record_id"]).tolist() == ["group x", "record b", "group z"]


def test_quarters_by_length():
    assert quarters(np.array([5.0, np.nan, 18, 11, 7])).tolist() == ["q1 shortest", "", "q4 longest", "q3", "q2"]
    assert quarters(np.array([np.nan])).tolist() == [""]
