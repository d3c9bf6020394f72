"""`jobs.calibrate` as a user starts it, with a tiny model: a revision that codes, and what it shows."""

import json

import polars as pl
import pytest

from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.storage import storage_for
from jobs.calibrate import main
from tests.models.conftest import coded, coder, write_tiny


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A tiny model and 80 reports of 40 patients that carry the very codes that it gives them, but for every tenth."""
    folder = tmp_path_factory.mktemp("calibrate")
    model = write_tiny(folder / "model")
    texts = [f"report {'colon' if i % 2 else 'lung'} number {i} of a tumour {'x ' * (i % 5)}" for i in range(80)]
    rows = coded(coder(model, {"threads": 1}, method="none"), texts)
    sites = [row["site_code"] if i % 10 else "C99" for i, row in enumerate(rows)]
    table = pl.DataFrame({"record_id": range(80), "text": texts, "site": sites, "patient": [i // 2 for i in range(80)]})
    table = table.with_columns(histology=pl.lit(None, pl.String), split=pl.Series(["valid", "test"] * 40))
    table.write_parquet(folder / "sample.parquet")
    return folder


def calibrate(folder, output, *more):
    common = [f"model.path={folder / 'model'}", "data.id=record_id", "data.group=patient", "precision=fp32", "threads=1"]
    return main.run([*common, f"data.path={folder / 'sample.parquet'}", f"output.path={output}", *more])


def test_a_revision_is_written_and_codes(sample, tmp_path, capsys):
    before = read_checkpoint(str(sample / "model"))
    assert calibrate(sample, tmp_path / "new", "target=0.6", "method=isotonic") == 0
    message = capsys.readouterr().out
    assert "80 labelled reports" in message and "site, 80 reports:" in message
    assert "before " in message and "after, cross-fitted" in message and "sure from a probability of" in message
    assert "3 of 4 codes can be coded without a person (min_support=10): C18, C34, C50\n" in message
    assert "8 records have a code that the model does not know (C99)" in message
    assert "histology: no labels; its calibration stays." in message
    found = read_checkpoint(str(tmp_path / "new"))
    assert found.digest != before.digest and found.digest[:12] in message
    assert read_checkpoint(str(sample / "model")).digest == before.digest
    assert found.calibration["histology"] == before.calibration["histology"]
    site = found.calibration["site"]
    assert site.isotonic is not None and site.threshold < 1
    assert site.figures["method"] == "isotonic" and site.figures["cross_fitted"]["n"] == 80
    card = (tmp_path / "new" / "README.md").read_text()
    assert before.digest in card and "after, cross-fitted" in card and card.endswith("a card\n")
    # What was shown as kept is what the revision keeps: every report here is like those it was fitted on.
    texts = pl.read_parquet(sample / "sample.parquet")["text"].to_list()
    rows = coded(coder(tmp_path / "new", {"threads": 1}, method="none", min_support=0), texts)
    kept = sum("low_confidence" not in row["reasons"] for row in rows)
    assert kept == site.figures["kept"] > 0
    assert {row["site_decision"] for row in rows if "low_confidence" in row["reasons"]} <= {"review"}


def test_too_few_reports_are_refused_before_any_work(sample, tmp_path, capsys):
    assert calibrate(sample, tmp_path / "new", "data.where={split: valid}", "data.labels={site: site}") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == (
        "calibrate: data.path: 40 reports with a code of site: too few. 98 % right with 95 % confidence takes at least 203 "
        "reports without an error, and 254 to show its effect; with so few, target=0.9 is the highest possible\n"
    )
    assert not (tmp_path / "new").exists()


def test_a_target_that_nothing_reaches_writes_nothing_and_says_why(sample, tmp_path, capsys):
    # Every tenth report is wrong.
    assert calibrate(sample, tmp_path / "new", "target=0.95", "data.labels={site: site}") == 2
    printed = capsys.readouterr()
    assert "before " in printed.out and "0 of 4 codes can be coded without a person (min_support=10)\n" in printed.out
    assert "80 reports do not show 95 % right with 95 % confidence: nothing will be coded without a person" in printed.out
    # Four fifths of 80 are fewer than the 80 that 95 % takes.
    assert "in 5 parts, so each is fitted on 64 reports, but at least 80 without an error are needed:" in printed.out
    assert "the effect can be shown from 100 reports on" in printed.out and "To use it" not in printed.out
    assert printed.err.splitlines()[-1].startswith(
        "calibrate: target: no revision is written, since with it every report would go"
    )
    assert not (tmp_path / "new").exists()


def test_csv_is_read_as_the_input_is(sample, tmp_path, capsys):
    table = pl.read_parquet(sample / "sample.parquet").select("record_id", "text", "site", "patient")
    table.write_csv(tmp_path / "sample.csv", separator=";")
    more = [f"data.path={tmp_path / 'sample.csv'}", "data.labels={site: site}", "target=0.6"]
    assert calibrate(sample, tmp_path / "comma", *more) == 2
    assert "it has: record_id;text;site;patient" in capsys.readouterr().err
    assert calibrate(sample, tmp_path / "new", *more, "data.delimiter=;") == 0
    assert calibrate(sample, tmp_path / "parquet", "data.labels={site: site}", "target=0.6") == 0
    assert read_checkpoint(str(tmp_path / "new")).digest == read_checkpoint(str(tmp_path / "parquet")).digest


def test_per_class_thresholds_reach_the_checkpoint(sample, tmp_path, capsys):
    assert calibrate(sample, tmp_path / "new", "target=0.5", "method=per_class", "data.labels={site: site}") == 0
    cuts = json.loads((tmp_path / "new" / "calibration.json").read_text())["tasks"]["site"]["class_thresholds"]
    assert cuts and set(cuts) <= {"C18", "C34", "C50", "C61"}
    assert "own thresholds, each for 50 % right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["data.labels={site: split}"], "data.labels: none of the 2 different labels (test, valid) is a code of task site"),
        (["data.labels={place: site}"], "the model has no task 'place'"),
        (["data.labels={site: nowhere}"], "has no column 'nowhere'"),
        (["data.path=nowhere.parquet"], "data.path: "),
        (["data.where={split: train}"], "data.where: none of 80 rows matches: split has test, valid"),
        (["method=platt"], "method: 'platt' is not allowed"),
        (["model.path=nowhere"], "is no checkpoint folder"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(sample, tmp_path, capsys, more, message):
    assert calibrate(sample, tmp_path / "new", *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_any_work(sample, tmp_path, capsys):
    assert calibrate(sample, tmp_path) == 2
    error = capsys.readouterr().err
    assert "exists; a revision is written to a new folder" in error and "scored" not in error


def test_model_sample_and_revision_on_s3(sample, tmp_path, capsys, bucket, store, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for file in [*(sample / "model").iterdir(), sample / "sample.parquet"]:
        assert storage_for(bucket).create(f"{bucket}/{file.relative_to(sample)}", file.read_bytes())
    there = [f"model.path={bucket}/model", f"data.path={bucket}/*.parquet"]
    # Each start of a job sets this process up anew for S3.
    more = ["target=0.6", f"storage.endpoint={store.url}", "storage.region=us-east-1"]
    assert calibrate(sample, f"{bucket}/new", *there, *more) == 0
    assert f"To use it: model.path={bucket}/new" in capsys.readouterr().out
    assert calibrate(sample, tmp_path / "new", *more) == 0
    assert read_checkpoint(f"{bucket}/new").digest == read_checkpoint(str(tmp_path / "new")).digest
    assert calibrate(sample, f"{bucket}/new", *there, *more) == 2
    assert "exists; a revision is written to a new folder" in capsys.readouterr().err
