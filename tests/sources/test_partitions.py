"""What stands in the names of folders is a column like any other, for every format."""

import json
import tempfile
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.sources import InputConfig, cut, keep_fields, list_files, read
from engine.sources.partitions import folder_columns
from engine.storage import LocalStorage


def write(path, **columns):
    """One record in the format that the path names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"id": path.parent.name + path.name, "text": "a report", **columns}
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [value] for name, value in columns.items()}), path)
    elif path.suffix == ".csv":
        path.write_text(",".join(columns) + "\n" + ",".join(map(str, columns.values())) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text(json.dumps(columns) + "\n")
    else:
        path.write_text("a report")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "txt"])
@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_folders_give_columns_to_every_format(tmp_path, load, ending, shard_bytes):
    write(tmp_path / "year=2023" / "hospital=A%20B%2FC" / f"1.{ending}")
    write(tmp_path / "year=2024" / "hospital=__HIVE_DEFAULT_PARTITION__" / f"2.{ending}")
    write(tmp_path / "year=2024" / "hospital=ä=1" / f"3.{ending}")
    found = load(tmp_path, shard_bytes, keep=["hospital", "year"])
    assert [row["keep"] for row in found.rows] == [
        {"hospital": "A B/C", "year": "2023"},
        {"hospital": None, "year": "2024"},
        {"hospital": "ä=1", "year": "2024"},
    ]
    assert found.failures == [None] * 3


def test_columns_of_folders_and_of_files_stand_side_by_side(tmp_path, load):
    write(tmp_path / "h=x" / "a.parquet", ward=7, note="n")
    write(tmp_path / "h=y" / "b.csv", ward=8, note="m")
    write(tmp_path / "h=y" / "c.csv", ward="", note="m")
    found = load(tmp_path, id="id", keep=["ward", "h", "note"])
    assert [row["keep"] for row in found.rows] == [
        {"ward": "7", "h": "x", "note": "n"},
        {"ward": "8", "h": "y", "note": "m"},
        {"ward": "", "h": "y", "note": "m"},
    ]


def test_records_that_fail_have_their_folders_columns_too(tmp_path, load):
    write(tmp_path / "h=x" / "a.csv")
    (tmp_path / "h=x" / "a.csv").write_text("text\n\xff\n", encoding="latin-1")
    (tmp_path / "h=y").mkdir()
    (tmp_path / "h=y" / "b.parquet").write_bytes(b"garbage")
    found = load(tmp_path, keep=["h"])
    assert [(row["keep"]["h"], row["failure"]["kind"]) for row in found.rows] == [
        ("x", "invalid_encoding"),
        ("y", "unreadable_file"),
    ]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "txt"])
def test_a_file_outside_such_folders_lacks_the_column(tmp_path, load, ending):
    write(tmp_path / "h=x" / f"a.{ending}")
    write(tmp_path / f"b.{ending}")
    load(tmp_path)
    with pytest.raises(ConfigError, match=r"input\.keep: "):
        load(tmp_path, keep=["h"])


def test_a_file_outside_such_folders_may_have_the_column_itself(tmp_path, load):
    write(tmp_path / "h=x" / "a.parquet")
    write(tmp_path / "b.parquet", h="z")
    assert [row["keep"]["h"] for row in load(tmp_path, keep=["h"]).rows] == ["z", "x"]


@pytest.mark.parametrize(
    ("first", "folder", "wanted"),
    [
        (2023, "2024", 2024),
        (2023, "__HIVE_DEFAULT_PARTITION__", None),
        (2023, "02024", ConfigError),
        (2023, "last", ConfigError),
        (date(2023, 1, 31), "2024-01-31", date(2024, 1, 31)),
        ("2023", "2024", "2024"),
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_folders_that_come_to_a_run_give_its_types_where_no_value_is_lost(tmp_path, ending, first, folder, wanted):
    write(tmp_path / "a.parquet", year=first, ward="x")
    write(tmp_path / f"year={folder}" / f"b.{ending}", ward="y")
    config, storage = InputConfig(str(tmp_path), "id", keep=("ward", "year")), LocalStorage()
    january, february = list_files(config, storage)
    run = keep_fields(config, storage, [january])
    if wanted is ConfigError:
        with pytest.raises(ConfigError, match=f"'year' of year={folder}/b.{ending} is string, in the rest of the run int64"):
            keep_fields(config, storage, [february], run)
        return
    assert keep_fields(config, storage, [february], run) == run
    (shard,) = cut(config, storage, [february], 1 << 20)
    assert read(config, storage, shard, run)["keep"].to_pylist() == [{"ward": "y", "year": wanted}]


def test_a_column_of_the_files_comes_to_a_run_whose_folders_gave_it(tmp_path):
    write(tmp_path / "a" / "year=2023" / "a.parquet")
    write(tmp_path / "b.parquet", year=2024)
    config, storage = InputConfig(str(tmp_path), "id", keep=("year",)), LocalStorage()
    january, february = list_files(config, storage)
    run = keep_fields(config, storage, [january])
    assert keep_fields(config, storage, [february], run) == run
    (shard,) = cut(config, storage, [february], 1 << 20)
    assert read(config, storage, shard, run)["keep"].to_pylist() == [{"year": "2024"}]


@pytest.mark.parametrize(
    ("ending", "value", "fits"),
    [
        ("parquet", "2024", True),
        ("parquet", 2024, True),
        ("parquet", 2023, False),
        ("parquet", None, False),
        ("parquet", [2024], False),
        ("csv", 2024, False),
        ("jsonl", "2024", False),
    ],
)
def test_a_column_that_stands_in_both_is_refused_unless_they_are_proven_equal(tmp_path, load, ending, value, fits):
    write(tmp_path / "year=2024" / f"a.{ending}", year=value)
    assert load(tmp_path).failures == [None]
    if fits:
        assert load(tmp_path, keep=["year"]).rows[0]["keep"] == {"year": "2024"}
    else:
        with pytest.raises(ConfigError, match=r"column 'year' and is in a folder 'year=\.\.\.'; rename one"):
            load(tmp_path, keep=["year"])


def test_a_null_of_both_is_equal(tmp_path, load):
    path = tmp_path / "h=__HIVE_DEFAULT_PARTITION__" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"text": ["a", "b"], "h": pa.nulls(2, pa.string())}), path)
    assert [row["keep"] for row in load(tmp_path, keep=["h"]).rows] == [{"h": None}] * 2
    pq.write_table(pa.table({"text": ["a", "b"], "h": ["x", None]}), path)
    with pytest.raises(ConfigError, match="rename one"):
        load(tmp_path, keep=["h"])


def test_two_folders_of_one_column_are_refused_if_it_is_kept(tmp_path, load):
    write(tmp_path / "h=1" / "h=2" / "a.csv")
    assert load(tmp_path).failures == [None]
    with pytest.raises(ConfigError, match="two folders named 'h="):
        load(tmp_path, keep=["h"])


def test_ids_and_texts_do_not_come_from_folders(tmp_path, load):
    write(tmp_path / "report=1" / "a.csv")
    for settings in ({"id": "report"}, {"text": "report"}):
        with pytest.raises(ConfigError, match="has no column 'report'"):
            load(tmp_path, **settings)


@given(value=st.text(min_size=1, max_size=12).filter(lambda text: text not in (".", "..") and "\0" not in text))
def test_what_arrow_and_polars_write_is_read_back(load, value):
    for name in ("arrow", "polars"):
        with tempfile.TemporaryDirectory() as folder:
            table = pa.table({"text": ["a report"], "h": [value]})
            if name == "arrow":
                pa.dataset.write_dataset(
                    table,
                    folder,
                    format="parquet",
                    partitioning=pa.dataset.partitioning(pa.schema([("h", pa.string())]), flavor="hive"),
                )
            else:
                pl.from_arrow(table).write_parquet(Path(folder), partition_by="h")
            assert [row["keep"] for row in load(folder, keep=["h"]).rows] == [{"h": value}]


def test_a_name_that_cannot_be_decoded_is_taken_as_it_stands():
    assert folder_columns("a%3Db=%ff/x=/=y/plain/f=1.csv") == [("a=b", "%ff"), ("x", ""), ("", "y")]
