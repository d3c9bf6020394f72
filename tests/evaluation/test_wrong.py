"""Wrong answers by id: which they are, in which order, and with what beside them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.evaluation.codes import figures
from engine.evaluation.gold import GoldConfig, read_gold
from engine.evaluation.metrics import Rounds
from engine.records import check, codes_fields, table_schema, wrong_schema

TASKS = ["site", "histology"]


def row(name, decision, site, histology, reasons=()):
    known = {"record_id": name, "source": "s", "position": 0, "run_id": "r", "model_digest": "m", "decision": decision}
    if decision == "failed":
        return known | {"failure": {"kind": "missing_text", "detail": ""}}
    answers = {}
    for task, (code, prob, own) in {"site": site, "histology": histology}.items():
        answers |= {f"{task}_code": code, f"{task}_prob": prob, f"{task}_decision": own, f"{task}_reasons": list(reasons)}
    return known | {"reasons": list(reasons), "n_tokens": 3} | answers


@pytest.fixture
def wrong(tmp_path):
    rows = [
        row("a", "auto", ("C50", 0.90, "auto"), ("8500/3", 0.5, "auto")),
        row("b", "review", ("C18", 0.99, "review"), ("8140/3", 0.6, "review"), ["low_margin"]),
        row("c", "auto", ("C34", 0.95, "auto"), ("8070/3", 0.7, "auto")),
        row("d", "failed", None, None),
        row("e", "review", ("C61", 0.40, "review"), ("8140/3", 0.8, "auto")),
    ]
    schema = table_schema(codes_fields(TASKS), [pa.field("ward", pa.string())])
    rows = [each | {"ward": "w" + each["record_id"]} for each in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "0")
    labels = {
        "id": list("abcde"),
        "site": ["C34", "C50", "C34", "C50", None],
        "histology": ["8500/3", "8140/3", "8140/3", "8140/3", "8000/3"],
        "patient": ["p", None, "q", "q", "q"],
        "year": [2020, 2021, None, 2021, 2021],
    }
    pq.write_table(pa.table(labels), tmp_path / "gold.parquet")
    names = {task: task for task in TASKS}
    gold = read_gold(GoldConfig(str(tmp_path / "gold.parquet"), names, id="id", group="patient", slices=("year",)))
    return figures([str(tmp_path / "0")], gold, TASKS, ("year", "ward"), rounds=Rounds(10)).wrong


def test_those_that_nobody_saw_stand_first_and_the_surest_on_top(wrong):
    keys = list(zip(*(wrong[name].to_pylist() for name in ("record_id", "task", "decision", "code", "gold")), strict=True))
    assert keys == [
        ("a", "site", "auto", "C50", "C34"),
        ("c", "histology", "auto", "8070/3", "8140/3"),
        ("b", "site", "review", "C18", "C50"),
        ("e", "histology", "review", "8140/3", "8000/3"),
    ]
    assert wrong["prob"].to_pylist() == pytest.approx([0.9, 0.7, 0.99, 0.8])


def test_reasons_patient_and_parts_stand_beside_them(wrong):
    assert check(wrong, wrong_schema(["year", "ward"]))["reasons"].to_pylist() == [[], [], ["low_margin"], []]
    assert wrong["task_decision"].to_pylist() == ["auto", "auto", "review", "auto"]
    assert wrong["group"].to_pylist() == ["p", "q", None, "q"]
    assert wrong["slice_year"].to_pylist() == ["2020", None, "2021", "2021"]
    assert wrong["slice_ward"].to_pylist() == ["wa", "wc", "wb", "we"]


def test_a_run_without_an_error_has_an_empty_table_of_the_same_columns(tmp_path):
    pq.write_table(
        pa.Table.from_pylist(
            [row("a", "auto", ("C50", 0.9, "auto"), ("8500/3", 0.5, "auto"))], schema=table_schema(codes_fields(TASKS))
        ),
        tmp_path / "0",
    )
    pq.write_table(pa.table({"id": ["a"], "site": ["C50"]}), tmp_path / "gold.parquet")
    gold = read_gold(GoldConfig(str(tmp_path / "gold.parquet"), {"site": "site"}, id="id"))
    wrong = figures([str(tmp_path / "0")], gold, ["site"], rounds=Rounds(10)).wrong
    assert len(check(wrong, wrong_schema([]))) == 0
