"""Found and marked mentions side by side: which records are the same, which types count, and what is told of the rest."""

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.evaluation.entities import compare, same_records
from engine.sources.labelled import Broken, Document
from tests.evaluation.found import found_row, found_rows, marked_texts

A, B, C = "A", "B", "C"


def pairs(ours, theirs):
    return dict(same_records(pl.Series(ours, dtype=pl.String), pl.Series(theirs, dtype=pl.String)).iter_rows())


def test_records_are_the_same_by_id():
    assert pairs(["a", "b.txt", "c"], ["c", "b.txt", "d"]) == {"c": "c", "b.txt": "b.txt"}
    assert pairs(["a"], ["b"]) == {}


def test_text_files_are_the_same_as_their_marks_by_path_or_by_name_alone():
    assert pairs(["1.txt", "2.txt", "3"], ["1", "2", "3.txt"]) == {"1.txt": "1", "2.txt": "2"}
    # Where names repeat, gold has paths; a name that is one file's on both sides is enough.
    assert pairs(["train/1.txt", "test/1.txt"], ["train/1", "test/1"]) == {"train/1.txt": "train/1", "test/1.txt": "test/1"}
    assert pairs(["text/1.txt", "text/2.txt"], ["1", "2"]) == {"text/1.txt": "1", "text/2.txt": "2"}
    assert pairs(["1.txt"], ["train/1", "test/1"]) == {}
    assert pairs(["train/1.txt", "test/1.txt"], ["1"]) == {}


def test_types_count_where_their_dataset_has_them_marked():
    rows = found_rows([found_row("r", [(0, 1, A), (2, 3, B)]), found_row("s", [(0, 1, A), (2, 3, B)])])
    gold = marked_texts({"r": [(0, 1, A)], "s": [(2, 3, B)]}, {"r": "one", "s": "two"})
    compared = compare(rows, gold)
    assert compared.sides() == ({"r": [(0, 1, A)], "s": [(2, 3, B)]}, {"r": [(0, 1, A)], "s": [(2, 3, B)]})
    assert compared.predicted["right"].to_list() == [True, True]
    assert compared.notes == ["2 found mentions have a type that is not marked in their dataset, and do not count: A 1, B 1."]


def test_one_name_for_what_is_the_same():
    rows = found_rows([found_row("r", [(0, 1, "Disease", 0.9, {"confused_with": "Cancer"}), (0, 1, "Cancer", 0.4), (4, 5, C)])])
    gold = marked_texts({"r": [(0, 1, "Disorder"), (4, 5, "Organ")]})
    compared = compare(rows, gold, types={"Disease": "Disorder", "Cancer": "Disorder", "Organ": C})
    # Two of one name at one place are one, the surer of them.
    assert compared.predicted.select("type", "score", "confused_with").rows() == [
        ("Disorder", pytest.approx(0.9), "Disorder"),
        (C, 0.5, None),
    ]
    assert compared.marked["type"].to_list() == ["Disorder", C] and compared.predicted["right"].all()


def test_types_that_the_run_does_not_look_for_are_left_out_and_told():
    rows = found_rows([found_row("r", [(0, 1, A)])])
    gold = marked_texts({"r": [(0, 1, A), (2, 3, B), (4, 5, C)]})
    compared = compare(rows, gold, known=[A, "Z"])
    assert len(compared.marked) == 1
    assert compared.notes == ["Marked mentions of B, C are left out: the run does not look for this type."]
    # Without the model nobody knows, so that they count as missed.
    compared = compare(rows, gold)
    assert len(compared.marked) == 3
    assert compared.notes == ["2 marked mentions have a type that the run never gives, and count as missed: B 1, C 1."]
    with pytest.raises(ConfigError, match=r"^types: no type of gold \(A, B, C\) is one that the run looks for \(Y, Z\)"):
        compare(rows, gold, known=["Z", "Y"])


def test_offsets_in_another_text_are_left_out():
    rows = found_rows([found_row("r", [(0, 1, A)]), found_row("s", [(0, 1, A)], "other"), found_row("t", None)])
    gold = marked_texts({"r": [(0, 1, A)], "s": [(0, 1, A)], "t": [(0, 1, A)], "u": [(0, 1, A)]})
    compared = compare(rows, gold)
    assert compared.records["record_id"].to_list() == ["r", "t"] and compared.answered["record_id"].to_list() == ["r"]
    assert compared.notes == [
        "1 marked texts have no row in the run.",
        "1 marked texts are not the texts that the run read; they were left out.",
    ]
    names = ("rows", "used", "matched", "without_row", "other_text", "answered", "marked", "found")
    assert [compared.counts[name] for name in names] == [4, 4, 2, 1, 1, 1, 1, 1]
    with pytest.raises(ConfigError, match="none of 2 marked texts is the text that the run read"):
        compare(rows, marked_texts({"r": [], "s": []}, text="a third"))


def test_no_record_in_common_is_told_with_what_to_do():
    with pytest.raises(ConfigError, match=r"^id: none of 1 marked texts is in the run.*jobs\.status shows them"):
        compare(found_rows([found_row("r", [])]), marked_texts({"x": []}))


def test_units_and_parts_come_from_gold_or_from_the_run():
    rows = found_rows([found_row(name, [], ward="w" + name, n_tokens=at) for at, name in enumerate("rstu")], ["ward"])
    gold = marked_texts(
        {"r": [], "s": [], "t": [], "u": []}, {"r": "one", "s": "one", "t": "two", "u": "two"}, group=["p", "p", None, "q"]
    )
    compared = compare(rows, gold, ["ward"])
    assert compared.units == {"r": "group p", "s": "group p", "t": "record t", "u": "group q"}
    parts = compared.parts(["ward"])
    assert parts["ward=wr"] == ["r"] and parts["dataset=one"] == ["r", "s"] and parts["length=q1 shortest"] == ["r"]
    of_run = compare(rows, marked_texts({"r": []}), group="ward")
    assert of_run.units == {"r": "group wr"} and list(of_run.parts(())) == ["length=q1 shortest"]
    for more, key in (({"slices": ["site"]}, "slices"), ({"group": "site"}, "group")):
        with pytest.raises(ConfigError, match=f"^{key}: neither gold nor the run has a column 'site'"):
            compare(rows, marked_texts({"r": []}), **more)


def test_a_text_may_be_no_group():
    rows = found_rows([found_row("r", [], note="x" * 101)], ["note"])
    with pytest.raises(ConfigError, match=r"^group: column 'note' has values of up to 101 characters; name one with ids"):
        compare(rows, marked_texts({"r": []}), group="note")


def test_what_gold_lost_is_told():
    broken = Broken.of([Document("x", "", broken="no text"), Document("r", "t")])
    gold = marked_texts({"r": [(0, 1, A), (4, 5, A)]}, broken=broken)
    pieces = [{"start": 0, "end": 1, "type": A, "group_id": "T1"}, {"start": 4, "end": 5, "type": A, "group_id": "T1"}]
    records = gold.records.set_column(gold.records.column_names.index("spans"), "spans", [[pieces]])
    compared = compare(found_rows([found_row("r", [(0, 1, A)])]), type(gold)(records, gold.marked, broken, 3))
    assert compared.notes == [
        "1 of 2 texts cannot be used: no text (1, the first is 'x')",
        "3 marks are coordinations, several mentions in one, and are left out.",
        "1 marked mentions consist of several pieces; each piece counts as a mention.",
    ]
