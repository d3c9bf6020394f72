import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.training.rationales import MARKS, Rationale, marks_of_column, merged, rationales, read_marks, samples

TEXT = "Colon, sigmoid: adenocarcinoma, moderately differentiated."


def examples(**changes):
    values = {
        "record_id": ["a", "b", "c", "d"],
        "source": ["s"] * 4,
        "text": [TEXT, "Lung: adenocarcinoma.", TEXT, "Lung:  ADENOCARCINOMA, left."],
        "split": ["train", "train", "test", "valid"],
        "group": ["a", "b", "c", "d"],
        "kind": ["real"] * 4,
        "leak": [False] * 4,
        "pair": [None] * 4,
        "site": ["C18", "C34", "C18", "C34"],
        "histology": ["8140/3", None, "8140/3", None],
    }
    schema = pa.schema([(n, pa.bool_() if n == "leak" else pa.string()) for n in values])
    return pa.table({**values, **changes}, schema=None if changes else schema)


def marks(*rows):
    return pa.Table.from_pylist([dict(zip(MARKS.names, (*row, None, None), strict=False)) for row in rows], schema=MARKS)


def made(*rows, kinds=("rationale",), table=None, labels=None):
    found, rejected = samples(table or examples(), rationales(marks(*rows)), kinds, labels or {"site": False, "histology": False})
    return found.to_pylist(), {row["origin"]: row["reason"] for row in rejected.to_pylist()}


def test_spans_become_a_text_of_their_own_with_the_reports_label():
    (row,), rejected = made(("a", 16, 30), ("a", 0, 5))
    assert row["text"] == "Colon adenocarcinoma" and (row["site"], row["histology"]) == ("C18", "8140/3")
    assert (row["kind"], row["group"], row["split"], row["record_id"]) == ("rationale", "a", "train", "a#rationale0")
    assert rejected == {}


def test_a_complement_is_the_rest():
    (row,), _ = made(("a", 16, 30), ("a", 0, 5), kinds=("complement",))
    assert row["text"] == ", sigmoid:  , moderately differentiated." and row["kind"] == "complement"


def test_what_overlaps_is_one_span_and_what_is_said_twice_is_said_once():
    assert merged([(3, 9), (0, 5), (0, 5), (9, 10), (12, 13)]) == ((0, 10), (12, 13))
    (row,), _ = made(("a", 0, 5), ("a", 3, 14), ("a", 0, 5))
    assert row["text"] == "Colon, sigmoid"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a", 50, 59), "outside_report"),
        (("a", -1, 5), "outside_report"),
        (("a", 5, 5), "outside_report"),
        (("a", 6, 7), "empty"),
        (("z", 0, 5), "unknown_record"),
        (("a", 0, 5, "C99"), "no_label"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_reason(row, reason):
    rows, rejected = made(row)
    assert rows == [] and rejected == {row[0]: reason}


def test_words_that_stand_in_another_split_too_are_left_out():
    rows, rejected = made(("b", 0, 20), ("d", 0, 21))
    assert rows == [] and rejected == {"b": "other_split"}
    rows, _ = made(("b", 0, 20), ("d", 0, 5))
    assert len(rows) == 1


def test_the_same_words_for_the_same_answer_count_once():
    table = examples().set_column(3, "split", pa.array(["train"] * 4))
    rows, rejected = made(("a", 0, 5), ("c", 0, 5), table=table)
    assert [row["record_id"] for row in rows] == ["a#rationale0"] and rejected == {"c": "duplicate"}


def test_a_label_of_its_own_teaches_that_label_alone():
    (row,), _ = made(("a", 16, 30, "8140/3"))
    assert (row["site"], row["histology"]) == (None, "8140/3")
    table = examples().drop_columns(["histology"]).set_column(8, "site", pa.array([["x", "y"], ["x"], ["y"], []]))
    found, _ = made(("a", 0, 5, "y"), ("b", 0, 4), table=table, labels={"site": True})
    assert [row["site"] for row in found] == [["y"], ["x"]]


def test_two_annotators_are_two_rationales():
    rows, _ = made(("a", 0, 5, None, "x"), ("a", 0, 14, None, "y"))
    assert sorted(row["text"] for row in rows) == ["Colon", "Colon, sigmoid"]


def test_only_train_is_used():
    assert made(("c", 0, 5))[0] == []


def test_highlights_from_a_column_and_from_a_file(tmp_path):
    column = pa.chunked_array([pa.array([[{"start": 0, "end": 5, "label": "C18"}], None, []])])
    found = marks_of_column(["a", "b", "c"], column)
    assert found.to_pylist() == [{"record_id": "a", "start": 0, "end": 5, "label": "C18", "annotator": None}]
    pq.write_table(pa.table({"record_id": ["a"], "start": [0], "end": [5]}), tmp_path / "m.parquet")
    assert read_marks(str(tmp_path / "m.parquet")).to_pylist() == [
        dict.fromkeys(MARKS.names) | found.to_pylist()[0] | {"label": None}
    ]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"record_id": ["a"], "start": [0]}, "no column end"),
        ({"record_id": ["a"], "start": ["x"], "end": [5]}, "whole numbers"),
        ({"record_id": ["a"], "start": [None], "end": [5]}, "start must not be null"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, table, told):
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=told):
        read_marks(str(tmp_path / "m.parquet"))
    with pytest.raises(ConfigError, match="no file"):
        read_marks(str(tmp_path / "n.parquet"))
    with pytest.raises(ConfigError, match="lists of highlights"):
        marks_of_column(["a"], pa.chunked_array([["x"]]))


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=6))
def test_rationale_and_complement_have_every_letter_once(text, drawn):
    spans = merged((start, min(start + size, len(text))) for start, size in drawn if start < len(text))
    one = Rationale(spans)
    letters = sorted(one.text(text).replace(" ", "") + one.complement(text).replace(" ", ""))
    assert letters == sorted(text.replace(" ", ""))
