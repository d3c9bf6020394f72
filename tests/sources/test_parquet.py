"""Parquet: how it is cut, and what its types and its damage become."""

import uuid
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, InputChanged
from engine.sources import InputConfig, cut, keep_fields, list_files, read
from engine.storage import LocalStorage


def write(path, text, id=None, row_group_size=None, **columns):
    data = {"text": text, **({} if id is None else {"id": id}), **columns}
    pq.write_table(pa.table(data), path, row_group_size=row_group_size, use_dictionary=False, write_statistics=False)
    return path


def invalid(*values):
    """A string column with bytes that are not UTF-8, as broken writers make them."""
    array = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(values), array.buffers()[1], array.buffers()[2], array.buffers()[0], array.null_count)


def cuts(loaded):
    return [[(s.source, s.group, s.groups, s.start, s.stop, s.position, s.rows) for s in shard.slices] for shard in loaded.shards]


def test_whole_row_groups_of_one_and_more_files_are_joined(tmp_path, load):
    text = ["x" * 96] * 40
    write(tmp_path / "a.parquet", text, row_group_size=10)
    write(tmp_path / "b.parquet", text[:5], row_group_size=10)
    loaded = load(tmp_path, 2300)
    assert cuts(loaded) == [
        [("a.parquet", 0, 2, 0, 20, 0, 20)],
        [("a.parquet", 2, 2, 0, 20, 20, 20)],
        [("b.parquet", 0, 1, 0, 5, 0, 5)],
    ]
    assert loaded.places == [("a.parquet", i) for i in range(40)] + [("b.parquet", i) for i in range(5)]
    assert [shard.rows for shard in load(tmp_path, 1 << 20).shards] == [45]


def test_a_large_row_group_is_cut_into_ranges_of_rows(tmp_path, load):
    text = [f"{i:096d}" for i in range(100)]
    write(tmp_path / "a.parquet", text[:90] + text[90:], row_group_size=90)
    loaded = load(tmp_path, 3100)
    assert [shard.rows for shard in loaded.shards] == [30, 30, 30, 10]
    assert loaded.texts == text


def test_a_row_group_is_never_decoded_too_often(tmp_path, load):
    text = [f"{i:096d}" for i in range(500)]
    loaded = load(write(tmp_path / "a.parquet", text), 1)
    assert len(loaded.shards) == 64
    assert loaded.texts == text


def test_equal_texts_in_a_dictionary_are_not_taken_for_free(tmp_path, load):
    pq.write_table(pa.table({"text": ["same"] * 10_000}), tmp_path / "a.parquet")
    assert len(load(tmp_path / "a.parquet", 64_000).shards) == 10


def test_a_garbage_a_truncated_and_an_empty_file_are_one_failed_record_each(tmp_path, load):
    whole = write(tmp_path / "e.parquet", ["fine"] * 100).read_bytes()
    (tmp_path / "a.parquet").write_bytes(b"canary" * 100)
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.parquet").write_bytes(b"")
    (tmp_path / "d.parquet").write_bytes(whole[:-4] + b"XXXX")
    loaded = load(tmp_path, id_scope="file")
    assert loaded.ids[:4] == ["a.parquet", "b.parquet", "c.parquet", "d.parquet"]
    assert loaded.failures[:4] == [("unreadable_file", "ArrowInvalid")] * 4
    assert loaded.texts[4:] == ["fine"] * 100
    assert loaded.places[0] == ("a.parquet", 0)


def test_a_broken_page_fails_the_rows_of_its_slice_and_no_others(tmp_path, load):
    path = write(tmp_path / "a.parquet", [f"{i:096d}" for i in range(40)], row_group_size=20)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    loaded = load(path, 2000)
    assert [failure and failure[0] for failure in loaded.failures] == ["unreadable_file"] * 20 + [None] * 20
    assert loaded.places == [("a.parquet", i) for i in range(40)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_every_type_that_can_hold_text_is_text_and_id(tmp_path, load, kind):
    values = ["é  🎗", "b"]
    stored = pa.array([v.encode() for v in values] if "binary" in str(kind) else values, kind)
    loaded = load(write(tmp_path / "a.parquet", stored, stored, ward=stored), id="id", keep=["ward"])
    assert loaded.texts == loaded.ids == values
    assert loaded.tables[0].schema.field("keep").type.field("ward").type in (kind, pa.string(), pa.binary())


def test_rows_without_text_or_id_and_rows_that_are_not_utf8_fail_alone(tmp_path, load):
    text = invalid(b"fine", None, b" \n", b"bad \xff", b"x", b"", b"last")
    loaded = load(write(tmp_path / "a.pq", text, pa.array([1, 2, 3, 4, None, 6, 7])), id="id")
    assert loaded.ids == ["1", "2", "3", "4", "a.pq:4", "6", "7"]
    assert [failure and failure[0] for failure in loaded.failures] == [
        None,
        "missing_text",
        "missing_text",
        "invalid_encoding",
        "parse_error",
        "missing_text",
        None,
    ]
    assert load(write(tmp_path / "b.pq", pa.nulls(2))).failures == [("missing_text", "")] * 2


def test_an_id_or_a_kept_value_that_is_not_utf8_fails_its_record(tmp_path, load):
    bad = invalid(b"a", b"\xff", None)
    loaded = load(write(tmp_path / "a.parquet", ["1", "2", "3"], bad, ward=bad), id="id", keep=["ward"])
    assert loaded.failures == [None, ("invalid_encoding", "input.id"), ("parse_error", "missing_id")]
    loaded = load(tmp_path / "a.parquet", keep=["ward"])
    assert loaded.failures == [None, ("invalid_encoding", "input.keep"), None]
    assert [row["keep"]["ward"] for row in loaded.rows] == ["a", None, None]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"text": [1, 2]}, {}, "input.text: column 'text' of a.parquet is int64, not text"),
        ({"text": ["a"], "id": [1.5]}, {"id": "id"}, "input.id: column 'id' of a.parquet is double"),
        ({"report": ["a"], "n": [1]}, {}, r"a.parquet has no column 'text'; it has: report, n"),
        ({"text": ["a"]}, {"keep": ["ward"]}, "input.keep: a.parquet has no column 'ward'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(tmp_path, load, columns, settings, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **settings)


def test_one_file_of_many_without_the_column_is_refused_at_the_check_and_at_the_cut(tmp_path, load):
    write(tmp_path / "a.parquet", ["a"])
    pq.write_table(pa.table({"report": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match=r"b\.parquet"):
        load(tmp_path)
    config = InputConfig(str(tmp_path), None)
    with pytest.raises(ConfigError, match=r"b\.parquet"):
        list(cut(config, LocalStorage(), list_files(config, LocalStorage()), 100))


def test_kept_columns_keep_their_types_and_widen_where_files_differ(tmp_path, load):
    when = pa.array([1_700_000_000_000_000_001], pa.timestamp("ns"))
    tags = pa.array([["a", "b"]])
    write(tmp_path / "a.parquet", ["a"], n=pa.array([1], pa.int32()), m=[1], k=pa.nulls(1), when=when, tags=tags)
    write(tmp_path / "b.parquet", ["b"], n=pa.array([2**40]), m=["x"], k=["y"], when=when, tags=tags)
    loaded = load(tmp_path, 1, keep=["n", "m", "k", "when", "tags"])
    keep = pa.concat_tables(loaded.tables)["keep"].combine_chunks().flatten()
    assert [str(column.type) for column in keep] == ["int64", "string", "string", "timestamp[ns]", "list<element: string>"]
    assert [column.to_pylist() for column in keep[:3]] == [[1, 2**40], ["1", "x"], [None, "y"]]
    assert keep[3].cast(pa.int64()).to_pylist() == [1_700_000_000_000_000_001] * 2


def test_a_column_that_is_null_throughout_one_file_takes_the_other_files_type(tmp_path, load):
    write(tmp_path / "a.parquet", ["a"], age=pa.nulls(1), tags=pa.array([[None]]), none=pa.nulls(1))
    write(tmp_path / "b.parquet", ["b"], age=[41], tags=[["x"]], none=pa.nulls(1))
    loaded = load(tmp_path, 1, keep=["age", "tags", "none"])
    assert [str(field.type) for field in loaded.tables[0].schema.field("keep").type][::2] == ["int64", "string"]
    assert [tuple(row["keep"].values()) for row in loaded.rows] == [(None, [None], None), (41, ["x"], None)]


MONTHS = [
    # The run's column, the new month's, and the new month's as the run then has it: None where the month is refused.
    (pa.array(["a"]), pa.array(["b"], pa.large_string()), ["b"]),
    (pa.array(["a"]), pa.array(["b"], pa.dictionary(pa.int8(), pa.string())), ["b"]),
    (pa.array(["a"]), pa.array([1.5, None]), ["1.5", None]),
    (pa.array([1], pa.int32()), pa.array([2, None], pa.int64()), [2, None]),
    (pa.array([1], pa.int32()), pa.array([2**40]), None),
    (pa.array([1]), pa.array([2], pa.int8()), [2]),
    (pa.array([1]), pa.array([2.0, float("nan"), None]), [2, None, None]),
    (pa.array([1]), pa.array([2.5]), None),
    (pa.array([1]), pa.nulls(2), [None, None]),
    (pa.array([1]), pa.array(["2"]), [2]),
    (pa.array([1]), pa.array(["two"]), None),
    (pa.array([1]), pa.array([True]), None),
    (pa.array([1.5]), pa.array([2]), [2.0]),
    (pa.array([1.5]), pa.array([2**53 + 1]), None),
    (pa.array([1], pa.decimal128(5, 2)), pa.array([2]), [2]),
    (pa.array([0], pa.timestamp("us")), pa.array([86_400_000_000_000], pa.timestamp("ns")), [datetime(1970, 1, 2)]),
    (pa.array([0], pa.timestamp("us")), pa.array([1], pa.timestamp("ns")), None),
    (pa.array([0], pa.timestamp("us")), pa.array([1], pa.timestamp("us", tz="UTC")), None),
    (pa.array([0], pa.timestamp("us")), pa.array([1], pa.date32()), [datetime(1970, 1, 2)]),
    (pa.array([["a"]]), pa.array([["b"], None], pa.large_list(pa.large_string())), [["b"], None]),
    (pa.array([["a"]]), pa.array([[]], pa.list_(pa.null())), [[]]),
    (pa.array([["a"]]), pa.array(["b"]), None),
    (pa.array([["a"]]), pa.array([float("nan"), None]), [None, None]),
    (pa.array([0], pa.timestamp("us")), pa.array([float("nan")]), [None]),
    (pa.array([0], pa.timestamp("us")), pa.array([float("nan"), 1.0]), None),
    (pa.nulls(1), pa.array([3]), ["3"]),
]


@pytest.mark.parametrize(("first", "second", "wanted"), MONTHS, ids=str)
def test_a_month_whose_type_changed_is_read_in_the_runs_or_refused_by_name(tmp_path, first, second, wanted):
    write(tmp_path / "january.parquet", ["t"] * len(first), age=first)
    write(tmp_path / "march.parquet", ["t"] * len(second), age=second, row_group_size=1)
    config, storage = InputConfig(str(tmp_path), None, keep=("age",)), LocalStorage()
    january, march = list_files(config, storage)
    run = keep_fields(config, storage, [january])
    if wanted is None:
        with pytest.raises(ConfigError, match=r"'age' of march.parquet is .*, in the rest of the run .*; make them alike"):
            keep_fields(config, storage, [march], run)
        return
    assert keep_fields(config, storage, [march], run) == run
    (shard,) = cut(config, storage, [march], 1 << 20)
    assert [row["keep"]["age"] for row in read(config, storage, shard, run).to_pylist()] == wanted


def test_in_one_run_too_a_value_that_the_common_type_cannot_hold_is_refused_before_it_is_read(tmp_path, load):
    write(tmp_path / "a.parquet", ["a"], n=[1.5])
    write(tmp_path / "b.parquet", ["b"], n=[2**53 + 1])
    with pytest.raises(ConfigError, match=r"'n' of b.parquet is int64, in the rest of the run double"):
        load(tmp_path, keep=["n"])


def test_text_files_may_come_to_a_run_whose_column_is_text_and_to_no_other(tmp_path):
    (tmp_path / "b.csv").write_text("text,ward\nb,7\n")
    config, storage = InputConfig(str(tmp_path), None, keep=("ward",)), LocalStorage()
    files = list_files(config, storage)
    for kind in (pa.string(), pa.large_string()):
        assert keep_fields(config, storage, files, [pa.field("ward", kind)]) == [pa.field("ward", kind)]
    with pytest.raises(ConfigError, match=r"'ward' of b.csv is string, in the rest of the run int64"):
        keep_fields(config, storage, files, [pa.field("ward", pa.int64())])


def test_a_damaged_group_of_a_column_that_changed_type_costs_its_rows_only(tmp_path):
    write(tmp_path / "a.parquet", ["a"], n=[1])
    path = write(tmp_path / "b.parquet", ["b"] * 4, n=[1.0, 2.0, 3.0, 4.0], row_group_size=2)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    config, storage = InputConfig(str(tmp_path), None, keep=("n",)), LocalStorage()
    one, other = list_files(config, storage)
    run = keep_fields(config, storage, [one])
    assert keep_fields(config, storage, [other], run) == run
    tables = [read(config, storage, shard, run) for shard in cut(config, storage, [other], 1)]
    assert [row["keep"]["n"] for table in tables for row in table.to_pylist()] == [None, None, 3, 4]


def test_a_file_that_cannot_be_read_has_null_in_a_kept_list(tmp_path, load):
    write(tmp_path / "a.parquet", ["a"], tags=[["x"]])
    (tmp_path / "b.parquet").write_bytes(b"garbage")
    assert [row["keep"]["tags"] for row in load(tmp_path, keep=["tags"]).rows] == [["x"], None]


def test_a_kept_nan_is_null_at_any_depth(tmp_path, load):
    nan = float("nan")
    write(tmp_path / "a.parquet", ["a", "b"], n=[nan, 1.0], m=[[1.0, nan], None], s=[{"a": nan}, {"a": 1.0}])
    kept = [tuple(row["keep"].values()) for row in load(tmp_path, keep=["n", "m", "s"]).rows]
    assert kept == [(None, [1.0, None], {"a": None}), (1.0, None, {"a": 1.0})]


def test_a_column_of_missing_texts_is_one_of_floats_to_pandas(tmp_path, load):
    write(tmp_path / "a.parquet", pa.array([float("nan"), None]), [1.0, float("nan")])
    loaded = load(tmp_path, id="id")
    assert loaded.failures == [("missing_text", ""), ("parse_error", "missing_id")]
    write(tmp_path / "b.parquet", pa.array([float("nan"), 1.0]), [1.0, 2.0])
    with pytest.raises(ConfigError, match=r"input.text: column 'text' of b.parquet is double, not text"):
        load(tmp_path, id="id")


UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (pa.array([7, 10**37], pa.decimal128(38, 0)), ["7", "1" + "0" * 37]),
        (pa.array([7, -100], pa.decimal32(5, 0)), ["7", "-100"]),
        (pa.array([1.0, 2.0**53 - 1]), ["1", "9007199254740991"]),
        (pa.array([-0.0, 2.0**24 - 1], pa.float32()), ["0", "16777215"]),
        (pa.array([7.0, 8.0], pa.float16()), ["7", "8"]),
        (pa.array([uuid.UUID(UUID).bytes, uuid.UUID(int=1).bytes], pa.uuid()), [UUID, str(uuid.UUID(int=1))]),
    ],
    ids=str,
)
def test_numbers_and_uuids_are_ids_as_they_are_written(tmp_path, load, ids, wanted):
    loaded = load(write(tmp_path / "a.parquet", ["a", "b"], ids), id="id")
    assert (loaded.ids, loaded.failures) == (wanted, [None, None])


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1.0, 1.5]),
        pa.array([1.0, float("inf")]),
        pa.array([1.0, 2.0**53]),
        pa.array([1.0, 2.0**24], pa.float32()),
        pa.array([1, 2], pa.decimal128(5, 1)),
        pa.array([True, False]),
        pa.array([1, 2], pa.date32()),
        pa.array([1, 2], pa.timestamp("us")),
        pa.array([b"a" * 16] * 2, pa.binary(16)),
    ],
    ids=str,
)
def test_other_ids_are_refused_by_column_with_what_to_do(tmp_path, load, ids):
    write(tmp_path / "a.parquet", ["a", "b"], ids)
    with pytest.raises(ConfigError, match=r"column 'id' of a.parquet is .*: write the column as text, or leave input.id out"):
        load(tmp_path, id="id")


def test_nested_columns_that_differ_cannot_be_kept(tmp_path, load):
    write(tmp_path / "a.parquet", ["a"], tags=[["a"]])
    write(tmp_path / "b.parquet", ["a"], tags=["a"])
    with pytest.raises(ConfigError, match=r"'tags' is .* drop it"):
        load(tmp_path, keep=["tags"])


def test_a_file_without_rows_is_a_shard_without_rows(tmp_path, load):
    write(tmp_path / "a.parquet", pa.array([], pa.string()))
    loaded = load(tmp_path)
    assert ([shard.rows for shard in loaded.shards], loaded.rows) == ([0], [])


def test_only_the_named_columns_are_read(tmp_path, load, monkeypatch):
    asked = []
    original = pq.ParquetFile.iter_batches

    def spy(self, *args, columns, **kwargs):
        asked.append(columns)
        return original(self, *args, columns=columns, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    load(write(tmp_path / "a.parquet", ["a"], ["1"], ward=["w"], other=["o"]), id="id", keep=["ward", "id"])
    assert asked == [["id", "text", "ward"]]


def test_a_file_that_changed_since_the_plan_stops_the_run(tmp_path):
    path = write(tmp_path / "a.parquet", ["a"])
    storage, config = LocalStorage(), InputConfig(str(path), None)
    (shard,) = cut(config, storage, list_files(config, storage), 100)
    write(path, ["changed"])
    with pytest.raises(InputChanged, match=r"a\.parquet"):
        read(config, storage, shard, [])


def test_a_footer_with_a_wrong_count_of_rows_is_one_failed_record(tmp_path, load):
    path = write(tmp_path / "a.parquet", [f"{i:096d}" for i in range(40)])
    data = bytearray(path.read_bytes())
    # The footer writes 40 as the byte 80 and 41 as 82, once for each place where it counts rows or values.
    found = [i for i in range(len(data) - 400, len(data) - 1) if data[i] == 80]
    for i in found:
        broken = bytearray(data)
        broken[i] = 82
        path.write_bytes(broken)
        loaded = load(path)
        assert len(loaded.rows) in (1, 40)
    assert found
