"""A run's table beside gold: rows by id, parts of the records, checks, and agreement with marks."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.codes import agreement_of, answers_of, checks_of, columns_of, unknown_labels
from engine.evaluation.gold import GoldConfig, read_gold
from engine.evaluation.joined import join
from engine.records import codes_fields, table_schema, text_digest

TEXTS = {"a": "left breast cancer", "b": "colon", "c": "lung", "d": "skin", "e": None}


def row(name, code, prob, decision="auto", **more):
    known = {"record_id": name, "source": "s", "position": 0, "run_id": "r", "model_digest": "m", "reasons": []}
    if code is None:
        return known | {"decision": "failed", "failure": {"kind": "missing_text", "detail": ""}}
    top = [{"code": code, "prob": prob}, {"code": "C80", "prob": 0.01}]
    answer = {"site_code": code, "site_prob": prob, "site_decision": decision, "site_top": top, "site_evidence": []}
    return known | {"decision": decision, "text_sha256": text_digest(TEXTS[name]), "n_tokens": len(TEXTS[name])} | answer | more


@pytest.fixture
def files(tmp_path):
    """Five rows in two files, in no order of ids; two of them checked."""
    evidence = [{"start": 5, "end": 11, "score": 1.0, "weight": 0.5}]
    checks = {"site_comprehensiveness": 0.5, "site_random_comprehensiveness": 0.25}
    rows = [
        row("d", "C44", 0.6, "review"),
        row("a", "C50", 0.9, site_evidence=evidence, **checks),
        row("e", None, None),
        row("c", "C34", 0.8),
        row("b", "C20", 0.7, site_sufficiency=0.125, site_random_sufficiency=0.5),
    ]
    schema = table_schema(codes_fields(["site"]), [pa.field("facility", pa.string())])
    table = pa.Table.from_pylist([{**each, "facility": "x"} for each in rows], schema=schema)
    names = []
    for number in range(2):
        names.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(table.slice(3 * number, 3), names[-1])
    return names


def gold(tmp_path, **columns):
    table = {"id": ["a", "b", "c", "e", "z"], "site": ["C50", "C18", None, "C50", "C50"], **columns}
    pq.write_table(pa.table(table), tmp_path / "gold.parquet")
    more = {"text": "text", "spans": {"site": "marks"}} if "marks" in columns else {}
    kept = {"slices": ("ward",)} if "ward" in columns else {}
    return read_gold(GoldConfig(str(tmp_path / "gold.parquet"), {"site": "site"}, id="id", **more, **kept))


def joined_with(files, gold, *slices):
    return join(files, gold.table, columns_of(["site"]), slices)


def test_rows_meet_by_id(files, tmp_path):
    joined = joined_with(files, gold(tmp_path))
    # c has no label and stands in no gold; z has no row; d has no gold.
    assert joined.run["record_id"].to_list() == joined.gold["record_id"].to_list() == ["a", "e", "b"]
    assert joined.without_row == 1
    answers, rows = answers_of(joined, "site", multi=False)
    assert rows.tolist() == [0, 1, 2]
    assert answers.gold.tolist() == ["C50", "C50", "C18"] and answers.code.tolist() == ["C50", "", "C20"]
    assert answers.answered.tolist() == [True, False, True] and np.isnan(answers.prob[1])
    assert answers.decision.tolist() == ["auto", "failed", "auto"] and list(answers.top[0]) == ["C50", "C80"]
    assert len(set(answers.group)) == 3


def test_no_row_in_common_is_told_with_what_to_do(files, tmp_path):
    with pytest.raises(ConfigError, match=r"none of 1 ids of the gold table is in the run.*id_scope=file"):
        joined_with(files, gold(tmp_path, id=["q"] * 5, site=["C50"] * 5))


def test_parts_by_column_of_either_table_and_by_length(files, tmp_path):
    joined = joined_with(files, gold(tmp_path, ward=["1", None, "3", "4", "5"]), "ward", "facility")
    parts = joined.parts(["ward", "facility"])
    assert joined.gold["site"].to_list() == ["C50", "C50", "C18"]
    assert parts["ward"].tolist() == ["1", "4", ""] and parts["facility"].tolist() == ["x", "x", "x"]
    assert parts["length"].tolist() == ["q4 longest", "", "q1 shortest"]  # 18 and 5 tokens, and none
    with pytest.raises(ConfigError, match="neither the gold table nor the run has a column 'ward'"):
        joined_with(files, gold(tmp_path), "ward")


def test_checks_are_beside_their_control(files, tmp_path):
    checks = checks_of(joined_with(files, gold(tmp_path)), "site")
    assert checks["comprehensiveness_gain"].tolist()[0] == 0.25 and np.isnan(checks["comprehensiveness"][1:]).all()
    assert checks["sufficiency_gain"][2] == 0.375 and np.isnan(checks["sufficiency_gain"][:2]).all()


def test_marks_of_another_text_or_outside_it_are_counted(files, tmp_path):
    marks = [[{"start": 5, "end": 11}], [{"start": 0, "end": 2}], None, None, None]
    texts = ["left breast cancer", "colon ", "", "", ""]
    joined = joined_with(files, gold(tmp_path, text=texts, marks=marks))
    values, counts = agreement_of(joined, "site")
    assert counts == {"compared": 1, "without_evidence": 0, "other_text": 1, "bad_spans": 0}
    assert values["cov_mass"][0] == 1.0 and values["cov_lift"][0] == pytest.approx(3.0) and np.isnan(values["cov_mass"][1:]).all()
    far = [[{"start": 5, "end": 99}], [{"start": 0, "end": 2}], None, None, None]
    texts[1] = "colon"
    counts = agreement_of(joined_with(files, gold(tmp_path, text=texts, marks=far)), "site")[1]
    assert counts == {"compared": 0, "without_evidence": 1, "other_text": 0, "bad_spans": 1}


def test_unknown_labels_by_how_common_they_are():
    assert unknown_labels(np.array(["x", "y;x", "C50", ""]), ["C50"]) == {"x": 2, "y": 1}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["x" * 101] * 3, r"^slices: column 'note' has values of up to 101 characters; name one with few different values"),
        ([["x"]] * 3, r"^a column to group, part or choose by holds lists"),
    ],
)
def test_a_kept_column_of_texts_is_no_slice(files, tmp_path, values, told):
    rows = pa.concat_tables(pq.read_table(file) for file in files)
    kept = rows.append_column("note", [pa.array((values * 2)[:5])])
    with pytest.raises(ConfigError, match=told):
        joined_with(kept, gold(tmp_path), "note")
