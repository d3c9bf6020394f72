import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.models.code_corpus import codes
from engine.models.site_classifier.rationales import Rationale, RationaleTable, Sampler, held_out_words, merge_spans
from engine.sources.labelled.values import MARKS, highlights

TEXT = "Colon, sigmoid: adenocarcinoma, moderately differentiated."
SCHEMA = {"leak": pa.bool_(), "marks": MARKS, "unknown": pa.list_(pa.string())}


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
        "marks": [None] * 4,
        "unknown": [None] * 4,
        "site": ["C18", "C34", "C18", "C34"],
        "histology": ["8140/3", None, "8140/3", None],
        **changes,
    }
    many = pa.list_(pa.string())
    types = [(n, SCHEMA.get(n, many if any(isinstance(each, list) for each in v) else pa.string())) for n, v in values.items()]
    return pa.table(values, schema=pa.schema(types))


def samples_of(*rows, kinds=("rationale",), labels=None, **changes):
    marks = [[_mark(*rest) for name, *rest in rows if name == each] or None for each in "abcd"]
    table = examples(marks=marks, **changes)
    if labels:
        table = table.select([name for name in table.column_names if name not in ("site", "histology") or name in labels])
    labels = labels or {"site": False, "histology": False}
    sampler = Sampler(kinds, labels, {task: set(codes(table[task])) for task in labels}, held_out_words(table))
    # Some reports at a time.
    table, rejected = map(pa.concat_tables, zip(*(sampler.samples(table.slice(at, 2)) for at in (0, 2)), strict=True))
    assert table.schema == table.schema
    return table.to_pylist(), {row["origin"]: row["reason"] for row in rejected.to_pylist()}


def rejected(*rows, **changes):
    marks = [[_mark(*rest) for name, *rest in rows if name == each] or None for each in "abcd"]
    table = Sampler((), {"site": False}, {"site": {"C18", "C34"}}, set()).samples(examples(marks=marks, **changes))[1]
    return [(row["origin"], row["reason"], [(span["start"], span["end"]) for span in row["spans"]]) for row in table.to_pylist()]


def _mark(start, end, label=None, annotator=None):
    return {"start": start, "end": end, "label": label, "annotator": annotator}


def test_spans_become_a_text_with_the_reports_label():
    (row,), rejected = samples_of(("a", 16, 30), ("a", 0, 5))
    assert row["text"] == "Colon adenocarcinoma" and (row["site"], row["histology"]) == ("C18", "8140/3")
    assert (row["kind"], row["group"], row["split"], row["record_id"]) == ("rationale", "a", "train", "a#rationale0")
    assert rejected == {}


def test_a_complement_is_the_rest():
    (row,), _ = samples_of(("a", 16, 30), ("a", 0, 5), kinds=("complement",))
    assert row["text"] == ", sigmoid:  , moderately differentiated." and row["kind"] == "complement"


def test_overlapping_and_repeated_spans_are_merged():
    assert merge_spans([(3, 9), (0, 5), (0, 5), (9, 10), (12, 13)]) == ((0, 10), (12, 13))
    (row,), _ = samples_of(("a", 0, 5), ("a", 3, 14), ("a", 0, 5))
    assert row["text"] == "Colon, sigmoid"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("a", 50, 59), "outside_report"),
        (("a", -1, 5), "outside_report"),
        (("a", 5, 5), "outside_report"),
        (("a", 6, 7), "empty"),
        (("a", 0, 5, "C99"), "no_label"),
    ],
)
def test_unusable_highlights_have_their_reason(row, reason):
    rows, rejected = samples_of(row)
    assert rows == [] and rejected == {row[0]: reason}


def test_a_report_of_another_split_is_left_out_and_a_word_of_one_is_not():
    # All but the full stop of the report of valid, and one word of it.
    texts = [TEXT, "Lung: adenocarcinoma, left.", TEXT, "LUNG:  adenocarcinoma, left."]
    rows, rejected = samples_of(("b", 0, 26), ("d", 0, 27), text=texts)
    assert rows == [] and rejected == {"b": "other_split"}
    rows, rejected = samples_of(("b", 6, 20), ("d", 7, 21), ("c", 16, 30), text=texts)
    assert [row["text"] for row in rows] == ["adenocarcinoma"] and rejected == {}


def test_the_same_words_for_the_same_answer_count_once():
    rows, rejected = samples_of(("a", 0, 5), ("c", 0, 5), split=["train"] * 4)
    assert [row["record_id"] for row in rows] == ["a#rationale0"] and rejected == {"c": "duplicate"}


def test_a_label_of_its_own_teaches_that_label_alone():
    (row,), _ = samples_of(("a", 16, 30, "8140/3"))
    assert (row["site"], row["histology"], row["unknown"]) == (None, "8140/3", None)


MANY = {"site": [["x", "y", "z"], ["x"], ["y"], []], "labels": {"site": True}}


def test_a_rationale_of_one_label_says_nothing_of_the_others_of_its_report():
    table, _ = samples_of(("a", 0, 5, "y"), ("b", 0, 4), **MANY)
    assert [(row["site"], row["unknown"]) for row in table] == [(["y"], ["x", "z"]), (["x"], None)]
    # Where the report's own labels are not known, nothing else is.
    (row,), _ = samples_of(("a", 0, 5, "y"), site=[None, ["x"], ["y"], []], labels={"site": True})
    assert (row["site"], row["unknown"]) == (["y"], ["x"])


def test_a_complement_teaches_what_its_report_does():
    (row,), _ = samples_of(("a", 0, 5, "y"), kinds=("complement",), **MANY)
    assert (row["site"], row["unknown"]) == (["x", "y", "z"], None)
    (row,), _ = samples_of(("a", 16, 30, "8140/3"), kinds=("complement",))
    assert (row["site"], row["histology"]) == ("C18", "8140/3")


def test_a_label_that_the_report_lacks_is_rejected():
    assert samples_of(("a", 0, 5, "C34")) == ([], {"a": "other_label"})
    assert samples_of(("b", 0, 4, "y"), **MANY) == ([], {"b": "other_label"})
    # A report without a code of a task cannot contradict a highlight.
    (row,), _ = samples_of(("b", 0, 4, "8140/3"))
    assert (row["site"], row["histology"]) == (None, "8140/3")


def test_a_span_outside_its_report_does_not_spoil_the_others():
    rows, lost = samples_of(("a", 0, 5), ("a", 3, 900), ("a", 16, 30))
    assert [row["text"] for row in rows] == ["Colon adenocarcinoma"] and lost == {"a": "outside_report"}
    assert rejected(("a", 0, 5), ("a", 3, 900), ("b", 9, 5)) == [
        ("a", "outside_report", [(3, 900)]),
        ("b", "outside_report", [(9, 5)]),
    ]
    assert rejected(("a", 6, 7), ("b", 0, 4, "C18")) == [("a", "empty", [(6, 7)]), ("b", "other_label", [(0, 4)])]


def test_two_annotators_are_two_rationales():
    rows, _ = samples_of(("a", 0, 5, None, "x"), ("a", 0, 14, None, "y"))
    assert sorted(row["text"] for row in rows) == ["Colon", "Colon, sigmoid"]


def test_only_train_is_used():
    assert samples_of(("c", 0, 5))[0] == []


def test_highlights_of_a_column_may_have_further_fields():
    column = pa.chunked_array([pa.array([[{"start": 0, "end": 5, "label": "C18", "text": "Colon"}], None, []])])
    assert highlights(column, "k").to_pylist() == [[_mark(0, 5, "C18")], None, []]
    assert highlights(column.slice(1), "k").to_pylist() == [None, []]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["x"], "lists of highlights"),
        ([[{"start": 0}]], "lists of highlights"),
        ([[{"start": None, "end": 5}]], "start and end must not be null"),
        ([[{"start": "x", "end": "y"}]], "whole numbers"),
    ],
)
def test_a_column_without_highlights_is_refused(column, message):
    with pytest.raises(ConfigError, match=message):
        highlights(pa.chunked_array([pa.array(column)]), "data.rationales")


def test_highlights_of_a_side_table_find_their_reports(tmp_path):
    table = pa.table(
        {"record_id": ["c", "a", "z", "a"], "start": [0, 7, 0, 0], "end": [5, 14, 3, 5], "label": ["C18", None, "C50", None]}
    )
    pq.write_table(table, tmp_path / "marks.parquet")
    side = RationaleTable(str(tmp_path / "marks.parquet"))
    # Some reports at a time, as they are read.
    table = pa.concat_tables([side.add_to(examples().slice(0, 2)), side.add_to(examples().slice(2))])
    assert table["marks"].to_pylist() == [[_mark(7, 14), _mark(0, 5)], None, [_mark(0, 5, "C18")], None]
    (lost,) = side.unknown().to_pylist()
    assert (lost["origin"], lost["label"], lost["reason"]) == ("z", "C50", "unknown_record")
    assert lost["spans"] == [{"start": 0, "end": 3}]
    with pytest.raises(ConfigError, match="two reports have the same id"):
        RationaleTable(str(tmp_path / "marks.parquet")).add_to(examples(record_id=["a", "a", "c", "d"]))
    with pytest.raises(ConfigError, match="two reports have the same id"):
        side.add_to(examples())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"record_id": ["a"], "start": [0]}, "no column end"),
        ({"record_id": ["a"], "start": ["x"], "end": [5]}, "whole numbers"),
        ({"record_id": ["a"], "start": [None], "end": [5]}, "must not be null"),
    ],
)
def test_an_invalid_side_table_is_refused(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=message):
        RationaleTable(str(tmp_path / "m.parquet"))
    with pytest.raises(ConfigError, match="no file"):
        RationaleTable(str(tmp_path / "n.parquet"))
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        RationaleTable(str(tmp_path / "t.parquet"))


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=6))
def test_rationale_and_complement_have_every_letter_once(text, drawn):
    spans = merge_spans((start, min(start + size, len(text))) for start, size in drawn if start < len(text))
    one = Rationale(spans)
    letters = sorted(one.text(text).replace(" ", "") + one.complement(text).replace(" ", ""))
    assert letters == sorted(text.replace(" ", ""))
