"""Entities against gold, worked by hand: six patients whose reports are alike, so that no figure rests on too few."""

import pyarrow as pa
import pytest

from engine.evaluation.entities import figures
from engine.evaluation.metrics import Rounds, to_table
from engine.evaluation.resample import share_interval
from engine.records import METRICS, check, wrong_entities_schema
from tests.evaluation.found import found_row, found_rows, marked_texts

A, B = "A", "B"
MARKED = [(0, 10, A), (20, 30, A), (40, 50, B), (60, 70, B)]
# One right, one that begins late, one of another type, and one where nothing is marked; 60-70 is missed.
FOUND = [
    (0, 10, A, 0.9, {"margin": 3.0, "confused_with": B, "context_share": 0.5, "hard_share": 0.25, "soft_share": 0.25}),
    (22, 30, A, 0.8, {"margin": 2.0, "confused_with": B, "context_share": 0.7}),
    (40, 50, A, 0.7, {"margin": -1.0, "confused_with": B, "assertion": "negated"}),
    (80, 90, B, 0.6, {"margin": 1.0, "confused_with": A}),
]
IDS = [f"r{at}" for at in range(6)]


def evaluated(found=FOUND, marked=MARKED, extra=(), rounds=50, **more):
    rows = [found_row(name, found, ward="x" if at % 2 else "y") for at, name in enumerate(IDS)]
    gold = marked_texts({**{name: marked for name in IDS}, **{row["record_id"]: [] for row in extra}})
    return figures(found_rows([*rows, *extra], ["ward"]), gold, rounds=Rounds(rounds), **more)


def test_a_run_of_a_version_without_assertions_is_measured_too():
    table = found_rows([found_row(name, FOUND) for name in IDS])
    older = pa.struct([field for field in table.schema.field("entities").type.value_type if field.name != "assertion"])
    rows = pa.array(table["entities"].to_pylist(), pa.list_(older))
    table = table.set_column(table.schema.get_field_index("entities"), "entities", rows)
    found = figures(table, marked_texts({name: MARKED for name in IDS}), rounds=Rounds(50))
    assert found.counts["found"] == 24 and set(found.wrong["assertion"].to_pylist()) == {None}


def test_figures_of_all_types_and_of_each():
    found = evaluated()
    expected = {
        # Of four found and four marked one is right, and two overlap one of their type.
        ("precision", "all"): (1 / 4, 24),
        ("recall", "all"): (1 / 4, 24),
        ("f1", "all"): (1 / 4, 42),
        ("overlap_f1", "all"): (1 / 2, 36),
        ("start_accuracy", "all"): (1 / 2, 12),
        ("end_accuracy", "all"): (1.0, 12),
        ("error_type_wrong", "all"): (1 / 4, 24),
        ("error_left_wrong", "all"): (1 / 4, 24),
        ("error_missed", "all"): (1 / 4, 24),
        ("error_spurious", "all"): (1 / 4, 24),
        # A: one of three found and of two marked; B: none.
        ("precision", "type=A"): (1 / 3, 18),
        ("recall", "type=A"): (1 / 2, 12),
        ("f1", "type=A"): (2 / 5, 24),
        ("f1", "type=B"): (0.0, 18),
        ("macro_f1", "all"): (1 / 5, 24),
    }
    for (name, part), (value, n) in expected.items():
        metric = found.get("entities", name, part)
        assert (metric.value, metric.n) == (pytest.approx(value), n), (name, part)
    assert found.get("entities", "macro_f1").params == {"types": 2}
    assert found.get(None, "auto_share").value == 1.0 and found.table == "entities" and found.tasks == ("entities",)
    assert [found.get(None, f"gold_{name}").value for name in ("rows", "used", "matched", "other_text")] == [6, 6, 6, 0]


def test_where_all_draws_are_alike_the_interval_is_the_exact_one_over_patients():
    found = evaluated()
    assert found.get("entities", "precision").low is None
    low, high = share_interval(6, 6)
    assert (found.get("entities", "end_accuracy").low, found.get("entities", "end_accuracy").high) == (low, high)
    f1 = found.get("entities", "f1", "type=B")
    assert (f1.low, f1.high) == (0.0, pytest.approx(2 * (1 - low) / (1 + 1 - low)))


def test_what_stands_beside_the_found_ones_is_measured():
    found = evaluated()
    # Scores 0.9, 0.8, 0.7, 0.6, the first right: one bin of 24, mean 0.75 against a quarter.
    assert found.get("entities", "ece").value == pytest.approx(0.5)
    assert found.get("entities", "brier_top").value == pytest.approx((0.1**2 + 0.8**2 + 0.7**2 + 0.6**2) / 4)
    assert found.get("entities", "auroc_right").value == found.get("entities", "auroc_margin").value == 1.0
    assert found.get("entities", "context_share").value == pytest.approx(0.6) and found.get("entities", "context_share").n == 12
    assert found.get("entities", "margin").value == pytest.approx(1.25)
    # The one of the wrong type names the right one.
    assert (found.get("entities", "confused_right").value, found.get("entities", "confused_right").n) == (1.0, 6)
    assert found.get("entities", "risk", "coverage=0.25").value == 0.0


def test_types_at_the_same_words_are_counted():
    (row,) = evaluated().rows("entities", "confusion")
    assert (row.slice, row.value, row.n, row.params) == ("gold=B,given=A", 6.0, 12, {"gold": "B", "given": "A"})


def test_errors_stand_by_record_with_their_places_the_surest_first():
    wrong = check(evaluated(slices=["ward"]).wrong, wrong_entities_schema(["ward"])).to_pylist()
    assert len(wrong) == 24 and {row["assertion"] for row in wrong if row["error"] == "type_wrong"} == {"negated"}
    assert [row["record_id"] for row in wrong[:6]] == IDS and [row["slice_ward"] for row in wrong[:2]] == ["y", "x"]
    names = ("error", "type", "start", "end", "gold_type", "gold_start", "gold_end")
    assert [tuple(row[name] for name in names) for row in wrong[::6]] == [
        ("left_wrong", A, 22, 30, A, 20, 30),
        ("type_wrong", A, 40, 50, B, 40, 50),
        ("spurious", B, 80, 90, None, None, None),
        ("missed", None, None, None, B, 60, 70),
    ]
    assert [row["score"] for row in wrong[::6]] == pytest.approx([0.8, 0.7, 0.6, None])
    assert (wrong[0]["dataset"], wrong[0]["decision"], wrong[0]["run_id"], wrong[0]["group"]) == ("d", "auto", "r", None)


def test_a_record_without_an_answer_is_in_no_figure_of_right_and_wrong():
    found = evaluated(extra=[found_row("failed", None)])
    assert found.get("entities", "recall").n == 24 and found.get(None, "failed_share").value == pytest.approx(1 / 7)
    assert found.counts["matched"] == 7 and found.counts["answered"] == 6


def test_slices_have_the_figures_that_matter():
    found = evaluated(slices=["ward"])
    assert found.get("entities", "f1", "ward=x").params == {"too_few": 3} and found.get("entities", "f1", "ward=x").n == 21
    assert {m.metric for m in found.metrics if m.slice == "ward=x"} == {"precision", "recall", "f1", "overlap_f1"}
    assert {m.slice for m in found.rows("entities", "f1", "length=")} == {"length=q1 shortest"}


def test_patients_are_drawn_whole():
    found = evaluated(group="ward")
    assert found.get("entities", "f1").params == {"too_few": 2}


def test_nothing_found_and_nothing_marked_are_no_figures():
    nothing = evaluated(found=[])
    assert nothing.get("entities", "precision").value is None and nothing.get("entities", "recall").value == 0.0
    assert nothing.get("entities", "ece") is None and len(nothing.wrong) == 24
    empty = evaluated(marked=[])
    assert empty.get("entities", "f1").value is None and len(empty.wrong) == 0


def test_the_table_is_as_the_contract_has_it_each_figure_once():
    metrics = evaluated(slices=["ward"]).metrics
    check(to_table(metrics, "run", "digest"), METRICS)
    keys = [(m.task, m.metric, m.slice) for m in metrics]
    assert len(keys) == len(set(keys))
