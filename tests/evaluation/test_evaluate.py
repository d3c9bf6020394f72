"""A question about a run goes to the figures of the table that it wrote."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.evaluate import evaluate
from engine.evaluation.gold import GoldConfig
from engine.evaluation.metrics import Rounds
from engine.records import codes_fields, table_schema
from tests.evaluation.found import found_row, found_rows
from tests.evaluation.test_findings import NAMES, studies

ROUNDS = Rounds(10)
SETTINGS = {"input.id": "id", "input.id_scope": "input", "input.keep": ["ward"], "input.max_bytes": 1000}


@pytest.fixture
def codes():
    known = {"source": "s", "position": 0, "run_id": "r", "model_digest": "m", "reasons": [], "decision": "auto", "n_tokens": 2}
    answer = {"site_code": "C50", "site_prob": 0.9, "site_decision": "auto", "site_reasons": []}
    rows = [known | answer | {"record_id": f"a{at}", "ward": "x"} for at in range(6)]
    return pa.Table.from_pylist(rows, schema=table_schema(codes_fields(["site"]), [pa.field("ward", pa.string())]))


def test_codes_from_a_table_are_those_from_its_files(codes, tmp_path):
    pl.DataFrame({"id": codes["record_id"], "site": ["C50"] * 5 + ["C34"], "year": [1] * 6}).write_csv(tmp_path / "gold.csv")
    pq.write_table(codes.slice(0, 2), tmp_path / "0.parquet")
    pq.write_table(codes.slice(2), tmp_path / "1.parquet")
    question = GoldConfig(str(tmp_path / "gold.csv"), slices=["year", "ward"])
    files = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    one, other = (evaluate("codes", rows, SETTINGS, question, {"site": ["C50"]}, ROUNDS) for rows in (codes, files))
    assert one.get("site", "accuracy").value == pytest.approx(5 / 6) and one.get("site", "unknown_label").value == 1.0
    assert {m.slice for m in one.rows("site", "accuracy")} == {
        "all",
        "site=C34",
        "site=C50",
        "year=1",
        "ward=x",
        "length=q1 shortest",
    }
    assert one.metrics == other.metrics and one.wrong.equals(other.wrong) and one.notes == other.notes
    with pytest.raises(ConfigError, match=r"^labels: the run has no task 'histology'; it has site$"):
        evaluate("codes", codes, SETTINGS, GoldConfig(question.path, labels={"histology": "site"}))


def test_entities_against_marked_texts(tmp_path):
    text = "No pain."
    rows = found_rows([found_row(f"r{at}", [(3, 7, "Sign")], text) for at in range(6)])
    spans = [[{"start": 3, "end": 7, "type": "Symptom"}, {"start": 0, "end": 2, "type": "Denial"}]] * 6
    gold = {"record_id": rows["record_id"].to_pylist(), "text": [text] * 6, "spans": spans, "year": [1, 1, 1, 2, 2, 2]}
    pl.DataFrame(gold).write_parquet(tmp_path / "gold.parquet")
    question = GoldConfig(str(tmp_path / "gold.parquet"), types={"Symptom": "Sign"}, slices=["year"], where={"dataset": "gold"})
    found = evaluate("entities", rows, {}, question, {"entities": ["Sign"]}, ROUNDS)
    assert found.get("entities", "f1").value == 1.0 and found.get("entities", "recall", "year=1").n == 3
    assert found.notes == ["Marked mentions of Denial are left out: the run does not look for this type."]


def test_findings_against_states(tmp_path):
    rows, gold = studies()
    states = {name: [] for name in NAMES}
    for listed in gold["findings"].to_pylist():
        told = {each["name"]: each["state"] for each in listed}
        for name in NAMES:
            states[name].append(told.get(name))
    pl.DataFrame({"id": gold["record_id"], "patient": gold["group"], **states}).write_parquet(tmp_path / "gold.parquet")
    question = GoldConfig(str(tmp_path / "gold.parquet"), group="patient")
    found = evaluate("findings", rows, {"input.id": "id"}, question, {"findings": NAMES}, ROUNDS)
    assert found.get("findings", "macro_auroc").value == 0.625 and found.counts["matched"] == 24


@pytest.mark.parametrize(
    ("table", "more", "told"),
    [
        ("entities", {"labels": {"site": "site"}}, "labels: is for runs with codes or findings, but this one has entities"),
        ("entities", {"spans": {"site": "marks"}}, "spans: is for runs with codes,"),
        ("codes", {"types": {"Disease": "Disorder"}}, "types: is for runs with entities, but this one has codes; leave it out"),
        ("explanations", {}, "run: a table of explanations cannot be measured against gold"),
    ],
)
def test_what_is_no_question_for_a_table_is_refused(table, more, told):
    with pytest.raises(ConfigError, match=told):
        evaluate(table, [], {}, GoldConfig("gold", **more))


@pytest.fixture
def findings(tmp_path):
    """24 studies of a run, and gold with a row before them for nobody, the split, the ward and a row twice."""
    rows, gold = studies()
    states = {name: [] for name in NAMES}
    for listed in gold["findings"].to_pylist():
        told = {each["name"]: each["state"] for each in listed}
        for name in NAMES:
            states[name].append(told.get(name))
    split, ward = ["test", *["train", "test"] * 12], [1, *[1, 1, 2] * 8]
    table = pl.DataFrame({"id": gold["record_id"], "patient": gold["group"], **states, "split": split, "ward": ward})
    changed = table[1:2].with_columns(fluid=pl.lit(0, pl.Int64))
    pl.concat([table, table[2:3], table[4:5], changed]).write_parquet(tmp_path / "gold.parquet")
    return rows, str(tmp_path / "gold.parquet")


def test_where_slices_and_ids_that_stand_twice_count_for_findings_too(findings):
    rows, path = findings
    known = {"findings": NAMES}
    found = evaluate("findings", rows, {"input.id": "id"}, GoldConfig(path, group="patient"), known, ROUNDS)
    names = ("rows", "used", "matched", "repeated", "conflicting", "unlabelled", "elsewhere")
    # The first study stands again with another state, and the first row states nothing.
    assert [found.counts[name] for name in names] == [28, 23, 23, 2, 2, 1, 0]
    assert [found.get(None, f"gold_{name}").value for name in names] == [28, 23, 23, 2, 2, 1, 0]
    assert "2 rows of the gold table repeat an id and its labels; each counts once." in found.notes
    gold = GoldConfig(path, where={"split": "test"}, slices=["ward"])
    found = evaluate("findings", rows, {"input.id": "id"}, gold, known, ROUNDS)
    assert (found.counts["matched"], found.counts["elsewhere"]) == (12, 13)
    # In ward 1 are every third study, of which the even ones count; each says something of two or three labels.
    one, other, every = (found.get("findings", "micro_f1", part) for part in ("ward=1", "ward=2", "all"))
    assert one.n + other.n == every.n and 0 < other.n < one.n
    assert set(found.wrong["slice_ward"].to_pylist()) == {"1", "2"}
    assert {m.slice for m in found.rows("findings", "macro_auroc")} == {"all", "ward=1", "ward=2"}


def test_findings_without_labels_end_in_one_line(findings):
    rows, path = findings
    with pytest.raises(ConfigError, match=r"^labels: name the column of each finding"):
        evaluate("findings", rows, {"input.id": "id"}, GoldConfig(path))
