"""The rationale bank of a few invented reports, by a tiny encoder, and every bad rationale with its reason."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.encoders import load_encoder
from engine.errors import ConfigError
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.models.site_classifier.rationales.bank import rule
from engine.models.site_classifier.rationales.gather import HUMAN
from engine.models.site_classifier.rationales.score import TABLE, _judged, _unlearn, summary
from jobs.rationale_bank import main
from tests.models.conftest import coder, write_tiny
from tests.models.site_classifier.rationales.test_bank import table

ROOT = Path(__file__).resolve().parents[4]
WORDS = {"C18": "sigmoid colon", "C34": "left lung", "C61": "prostate core"}


def mark(start, end, label=None):
    return {"start": start, "end": end, "label": label, "annotator": "a"}


def reports():
    rows = []
    for number in range(24):
        label = ("C18", "C34")[number % 2]
        text = f"Specimen {number}: {WORDS[label]}, carcinoma. Margins free."
        begin = text.index(WORDS[label])
        marks = [mark(begin, begin + len(WORDS[label]))]
        rows.append({"record_id": f"r{number}", "text": text, "site": label, "marks": marks, "split": "train"})
    rows[0]["marks"] = [mark(5, 900)]
    rows[1]["marks"] = [mark(8, 9)]
    rows[2]["marks"] = [mark(0, 8, "C34")]
    # Duplicate and overlapping spans of one annotator are one rationale.
    rows[3]["marks"] = [rows[3]["marks"][0], rows[3]["marks"][0], mark(0, 12)]
    rows[5]["marks"] = [*rows[5]["marks"], {**mark(0, 8), "annotator": "b"}]
    # The same words are marked in test.
    free = rows[7]["text"].index("Margins")
    rows[7]["marks"] = [mark(free, free + 7)]
    # One bad span of several.
    rows[6]["marks"] = [*rows[6]["marks"], mark(20, 900)]
    rows.append({"record_id": "alone", "text": "One prostate core.", "site": "C61", "marks": [mark(4, 17)], "split": "train"})
    begin = f"Held {rows[4]['text']}".index("Margins")
    rows.append(
        {**rows[4], "record_id": "held", "text": f"Held {rows[4]['text']}", "marks": [mark(begin, begin + 7)], "split": "test"}
    )
    return [{**row, "patient_id": row["record_id"]} for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("bank")
    pq.write_table(pa.Table.from_pylist(reports()), found / "marked.parquet")
    write_tiny(found / "model")
    return found


def command(folder, *more, output="bank"):
    where = [f"data.path={folder}/marked.parquet", f"output.path={folder}/{output}", f"model.path={folder}/model"]
    named = ["data.rationales=marks", "data.labels={site: site}"]
    return [*where, *named, "folds=3", "train.epochs=2", "model.precision=fp32", "model.threads=1", *more]


@pytest.fixture(scope="module")
def made(folder):
    with redirect_stderr(io.StringIO()) as told:
        assert main.run(command(folder, "generator=template")) == 0
    assert told.getvalue().count("model.plain=true") == 1
    return pq.read_table(folder / "bank" / "rationale_bank")


def test_every_rationale_stands_once_for_each_rule_and_its_control(made):
    assert made.schema.equals(TABLE)
    rows = made.to_pylist()
    rules = {row["rule"] for row in rows}
    assert {"all", "drop_wrong", "random(drop_wrong)", "top(0.25)", "random(top(0.25))", "at_most(0)"} <= rules
    assert len(rows) == len({(row["record_id"], row["rule"]) for row in rows}) == len(rules) * (27 + 25)
    scored = [row for row in rows if row["rule"] == "all" and row["accepted"]]
    assert all(row["sufficiency"] == pytest.approx(row["report_prob"] - row["rationale_prob"]) for row in scored)
    assert {row["fold"] for row in scored} == {0, 1, 2}
    # Two people marked something in this report.
    twice = [row["report_prob"] for row in scored if row["origin"] == "r5" and row["source"] == HUMAN]
    assert len(twice) == 2 and twice[0] == twice[1] > 0
    # The words of a report stay in its own table.
    assert {row["text"] for row in rows} == {None} and not any("held" in row["record_id"] for row in rows)


def test_what_cannot_be_scored_has_its_reason(made):
    rows = [row for row in made.to_pylist() if row["rule"] == "all" and row["source"] == HUMAN]
    reasons = {row["origin"]: row["reject_reason"] for row in rows if not row["accepted"]}
    assert reasons.pop("r6") == "outside_report"
    assert reasons.pop("r7") == "other_split"
    assert reasons == {"r0": "outside_report", "r1": "empty", "r2": "other_label", "alone": "class_in_one_fold"}
    # What lies within the report is scored all the same.
    assert sorted(row["accepted"] for row in rows if row["origin"] == "r6") == [False, True]
    assert all(row["sufficiency"] is None for row in rows if not row["accepted"])
    (joined,) = [row for row in rows if row["origin"] == "r3"]
    assert [tuple(span.values()) for span in joined["spans"]] == [(0, 21)]


def test_what_lies_beyond_the_tokens_that_are_read_is_not_scored(folder):
    far = [{**row, "text": "Specimen " * 30 + row["text"]} for row in reports()[7:19]]
    for row in far[2:]:
        begin = row["text"].index(WORDS[row["site"]])
        row["marks"] = [mark(begin, begin + len(WORDS[row["site"]]))] if row is far[2] else [mark(0, 8)]
    pq.write_table(pa.Table.from_pylist(far[2:]), folder / "far.parquet")
    argv = [word for word in command(folder, "model.max_tokens=20", "rules=[all]", output="far") if "data.path=" not in word]
    assert main.run([*argv, f"data.path={folder}/far.parquet"]) == 0
    rows = pq.read_table(folder / "far" / "rationale_bank").to_pylist()
    reasons = {row["origin"]: row["reject_reason"] for row in rows if row["rule"] == "all"}
    assert reasons.pop("r9") == "beyond_max_tokens" and set(reasons.values()) == {None}


def test_a_bank_is_trained_on_by_one_of_its_rules(made, folder):
    config = DataConfig(
        f"{folder}/marked.parquet",
        labels={"site": "site"},
        rationale_table=f"{folder}/bank/rationale_bank/part-0.parquet",
        rationale_rule="random(top(0.5))",
    )
    kept = {row["origin"] for row in made.to_pylist() if row["rule"] == "random(top(0.5))" and row["accepted"]}
    found = ReportSurvey.of(config)
    assert len(found.samples) and {row["reason"] for row in found.rejected.to_pylist()} == {"duplicate"}
    told = {row["record_id"].split("#")[0] for row in found.samples.to_pylist()}
    assert told | set(found.rejected["origin"].to_pylist()) == kept < {row["origin"] for row in made.to_pylist()}
    with pytest.raises(ConfigError, match=r"data\.rationale_rule: the bank was not judged by 'best', but by all, at_most"):
        ReportSurvey.of(replace(config, rationale_rule="best"))
    with pytest.raises(ConfigError, match="for a rationale bank set data"):
        ReportSurvey.of(replace(config, rationale_rule=None))
    with pytest.raises(ConfigError, match="is no rationale bank"):
        ReportSurvey.of(replace(config, rationale_table=f"{folder}/marked.parquet"))
    with pytest.raises(ConfigError, match=r"name the bank in data\.rationale_table"):
        replace(config, rationale_table=None)


def test_a_control_keeps_as_many_of_each_class(made):
    rows = [row for row in made.to_pylist() if row["source"] == HUMAN and row["accepted"]]
    for by in ("drop_wrong", "top(0.5)"):
        one, other = ([row["label"] for row in rows if row["rule"] == name] for name in (by, f"random({by})"))
        assert sorted(one) == sorted(other)


def test_templates_are_compared_with_people(made):
    (line,) = [row for row in summary(made) if (row["source"], row["rule"]) == ("template", "all")]
    # The sentence that names the site holds the people's words, where these can be used; the rest is not compared.
    assert line["n"] == 25 and line["human_coverage"] == pytest.approx(1.0, abs=0.05)


def test_the_same_command_again_reads_what_is_there_and_other_settings_are_refused(made, folder, capsys):
    before = (folder / "bank" / "rationale_bank" / "part-0.parquet").stat().st_mtime_ns
    assert main.run(command(folder, "generator=template")) == 0
    assert (folder / "bank" / "rationale_bank" / "part-0.parquet").stat().st_mtime_ns == before
    capsys.readouterr()
    for said, argv in {
        "other data or settings": command(folder, "generator=template", "train.epochs=1"),
        "need as many patients": command(folder, "folds=90", output="x"),
        "is no rule": command(folder, "rules=[best]", output="x"),
        "none of template": command(folder, "generator=gpt2", output="x"),
        "must be a task": command(folder, "task=stage", output="x"),
    }.items():
        assert main.run(argv) == 2
        told = capsys.readouterr().err
        assert said in told and told.count("\n") == 1, told
    assert not (folder / "x").exists()


def test_what_alone_says_another_label_is_set_aside_before_a_rule_and_its_control_count():
    own = {"source": "words", "generator_digest": "d", "annotator": None, "text": "anew", "spans": (), "flaw": None}
    found = [{"record_id": f"r{i}", "origin": f"o{i}", "label": "C18" if i < 4 else "C34", **own} for i in range(6)]
    for seed in range(8):
        rows = _judged(table(), found, [rule("top(0.5)"), rule("random(top(0.5))")], seed).to_pylist()
        assert len(rows) == 12
        by_rule = {name: [row for row in rows if row["rule"] == name] for name in ("top(0.5)", "random(top(0.5))")}
        for each in by_rule.values():
            # r0 of C18 says C34 and r5 of C34 says C18: two of the other three of C18 are left, and the other one of C34.
            assert [row["record_id"] for row in each if row["reject_reason"] == "says_other"] == ["r0", "r5"]
            assert sorted(row["label"] for row in each if row["accepted"]) == ["C18", "C18", "C34"]
        assert {row["record_id"] for row in by_rule["top(0.5)"] if row["accepted"]} == {"r1", "r2", "r4"}


def test_what_two_people_marked_counts_once():
    base = {"origin": "o", "label": "C18", "rule": "all", "accepted": True, "sufficiency": 0.1, "says": "C18"}
    spans = {"one": (HUMAN, 0, 4), "other": (HUMAN, 2, 6), "made": ("template", 0, 2)}
    rows = [
        {**base, "record_id": name, "source": source, "spans": [{"start": start, "end": end}]}
        for name, (source, start, end) in spans.items()
    ]
    (line,) = [row for row in summary(pa.Table.from_pylist(rows, schema=TABLE)) if row["source"] == "template"]
    assert line["human_coverage"] == pytest.approx(2 / 6)


DIES = """
import os, signal, sys
from engine.models.site_classifier.rationales import fold
from engine.training import loop
from jobs.rationale_bank import main

when, argv = sys.argv[1], sys.argv[2:]
answers, save = fold.answers, loop._save

def answered(learned, curve, number, settings):
    if when == "answers" and number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return answers(learned, curve, number, settings)

def saved(folder, *rest):
    save(folder, *rest)
    if when == "epoch" and folder.parent.name == "fold1":
        os.kill(os.getpid(), signal.SIGKILL)

fold.answers, loop._save = answered, saved
sys.exit(main.run(argv))
"""


def test_killed_in_a_fold_it_goes_on_and_makes_the_same_bank(made, folder):
    argv = command(folder, "generator=template", output="killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    work = folder / "killed" / "_work"
    for when in ("epoch", "answers"):
        process = subprocess.run([sys.executable, "-c", DIES, when, *argv], env=environment, cwd=ROOT, timeout=200)
        assert process.returncode == -signal.SIGKILL
        assert [path.name for path in (work / "_scores" / "receipts").iterdir()] == ["00000.json"]
        assert not (folder / "killed" / "rationale_bank").exists()
    before = {path: path.stat().st_mtime_ns for path in (work / "states").rglob("*") if path.is_file()}
    with redirect_stderr(io.StringIO()) as told:
        assert main.run(argv) == 0
    assert before and "scores: 2 of 3 parts" in told.getvalue() and "scores: 1 of 3 parts" not in told.getvalue()
    assert sorted(path.name for path in (folder / "killed").iterdir()) == ["rationale_bank", "settings.json"]
    assert pq.read_table(folder / "killed" / "rationale_bank").equals(made)


def test_changed_reports_are_told_apart_from_changed_settings(made, folder, capsys):
    changed = [{**row, "text": row["text"].replace("Margins", "margins")} for row in reports()]
    pq.write_table(pa.Table.from_pylist(changed), folder / "changed.parquet")
    argv = [word for word in command(folder, "generator=template") if "data.path=" not in word]
    assert main.run([*argv, f"data.path={folder}/changed.parquet"]) == 2
    assert "data.path: the input has changed since this rationale bank began" in capsys.readouterr().err


def test_a_plain_encoder_is_the_one_that_the_checkpoint_began_with(folder):
    made = coder(folder / "model", method="none")
    plain = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    assert not all(torch.equal(value, plain[name]) for name, value in made.network.encoder.state_dict().items())
    _unlearn(made)
    found = made.network.encoder.state_dict()
    assert found.keys() == plain.keys() and all(torch.equal(value, plain[name]) for name, value in found.items())
