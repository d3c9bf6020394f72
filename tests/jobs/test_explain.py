"""`jobs.explain` as a user starts it, on a finished run."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from engine.models.run import system_of
from engine.pipeline import stages, work
from engine.pipeline.commit import commit
from engine.pipeline.layout import Layout
from engine.storage import storage_for
from jobs import code_reports
from jobs.explain import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plainly(monkeypatch):
    """The same work in this process, without Ray; counts the shards that were coded."""
    from engine.pipeline import cluster

    done = []

    def receipts(todo, job, *_):
        for planned in todo:
            table = work.code(job, system_of(job.model), planned.shard)
            done.append(planned.name)
            yield commit(storage_for(job.output), Layout(job.output), planned.name, 1, table, bytes=planned.bytes, seconds={})

    monkeypatch.setattr(stages, "receipts", receipts)
    monkeypatch.setattr(cluster, "connected", lambda _: contextlib.nullcontext())
    return done


def arguments(run, output, *more):
    common = [f"run={run.output}", f"model.path={run.model}", f"output.path={output}", "cluster.actors=1", "cluster.threads=1"]
    return [*common, "cluster.shard_kb=2", "explain.steps=5", *more]


def table(output):
    return pl.read_parquet(output / "explanations" / "*.parquet")


def test_a_sample_of_a_run_is_explained_with_one_row_a_record(coded_run, tmp_path, plainly, capsys):
    output = tmp_path / "explained"
    order = arguments(coded_run, output, "explain.sample=7", "explain.faithfulness=1", "explain.stability=0.5")
    assert main.run(order) == 0
    told = capsys.readouterr().out
    assert "Read 60 records" in told
    counted = duckdb.sql(re.search(r'duckdb\.sql\("(.*)"\)', told)[1]).fetchall()
    assert sum(count for *_, count in counted) == 14 and {status for _, status, _ in counted} == {"ok"}
    found = table(output)
    assert found["record_id"].to_list() == coded_run.codes["record_id"].to_list()
    assert dict(found["decision"].value_counts().iter_rows()) == {"auto": 7, "not_applicable": 52, "failed": 1}
    assert found.filter(pl.col("decision") == "failed")["failure"].struct.field("kind").to_list() == ["missing_text"]
    assert (found["run_id"] != coded_run.codes["run_id"][0]).all() and (
        found["coded_run"].drop_nulls() == coded_run.codes["run_id"][0]
    ).all()
    both = found.filter(pl.col("targets").is_not_null()).join(coded_run.codes, on="record_id")
    texts = dict(pl.read_parquet(coded_run.reports).select("record_id", "text").iter_rows())
    for row in both.iter_rows(named=True):
        assert [t["target_name"] for t in row["targets"]] == [row["site_code"], row["histology_code"]]
        assert row["text_sha256"] == row["text_sha256_right"]
        assert row["faithfulness_sampled"] and all(t["m_comp_aopc"] is not None for t in row["targets"])
        assert all((t["m_stability"] is not None or t["m_flip_rate"] == 1) == row["stability_sampled"] for t in row["targets"])
        for span in row["targets"][0]["selected_spans"]:
            assert texts[row["record_id"]][span["start"] : span["end"]].strip()
    settings = json.loads((output / "_run.json").read_text())["settings"]
    assert settings["model.options.run"] == coded_run.codes["run_id"][0] and settings["model.options.settings.steps"] == 5
    assert settings["model.digest"] == coded_run.codes["model_digest"][0]
    shards = len(plainly)
    assert shards > 3
    assert main.run(order) == 0
    assert "Nothing new to do" in capsys.readouterr().out and len(plainly) == shards
    assert main.run([*order, "explain.method=pooling"]) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_reports_that_are_not_those_of_the_run_fail_and_the_others_go_on(coded_run, tmp_path, plainly):
    reports = pl.read_parquet(coded_run.reports).head(6)
    changed = reports.with_columns(
        text=pl.when(pl.int_range(6) == 2).then(pl.lit("Another text.")).otherwise(pl.col("text")),
        record_id=pl.when(pl.int_range(6) == 3).then(pl.lit("new")).otherwise(pl.col("record_id")),
    )
    changed.write_parquet(tmp_path / "some.parquet")
    order = arguments(coded_run, tmp_path / "out", f"input.path={tmp_path / 'some.parquet'}", "explain.method=pooling")
    assert main.run(order) == 0
    kinds = table(tmp_path / "out")["failure"].struct.field("kind").to_list()
    assert kinds == [None, "missing_text", "text_changed", "not_coded", None, None]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["explain.targets={site: C99}"], "no code 'C99'"),
        (["explain.method=magic"], "explain.method: 'magic' is not allowed"),
        (["model.path=shipped"], "is not the model of this run"),
        (["run={reports}"], "holds no run"),
        (["input.path={reports}/none"], "there is no file or folder"),
        (["output.path={run}"], "belongs to another run"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(coded_run, tmp_path, capsys, more, told):
    places = {"{reports}": str(coded_run.reports.parent), "{run}": str(coded_run.output)}
    for name, value in places.items():
        more = [each.replace(name, value) for each in more]
    assert main.run(arguments(coded_run, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_an_input_that_is_no_longer_there_must_be_named(coded_run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(coded_run.output, copy)
    part = next((copy / "_plan").glob("*.jsonl"))
    part.write_text(part.read_text().replace(json.dumps(str(coded_run.reports.parent)), json.dumps(str(tmp_path / "gone"))))
    order = [f"run={copy}", f"model.path={coded_run.model}", f"output.path={tmp_path / 'out'}"]
    assert main.run(order) == 2
    assert "name the reports" in capsys.readouterr().err


def test_run_reports_model_and_explanations_on_s3(coded_run, tmp_path, plainly, capsys, monkeypatch, bucket, store):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage = storage_for(bucket)
    some = tmp_path / "some.parquet"
    pl.read_parquet(coded_run.reports).head(12).write_parquet(some)
    for name, file in {"in/some.parquet": some, **{f"model/{each.name}": each for each in coded_run.model.iterdir()}}.items():
        assert storage.create(f"{bucket}/{name}", file.read_bytes())
    there = [f"model.path={bucket}/model", f"storage.endpoint={store.url}", "storage.region=us-east-1"]
    there += ["cluster.actors=1", "cluster.threads=1", "cluster.precision=fp32", "cluster.shard_kb=2"]
    reading = [f"input.path={bucket}/in", "input.id=record_id"]
    assert code_reports.main.run([*there, *reading, f"output.path={bucket}/run"]) == 0
    coded = len(plainly)
    order = [*there, f"run={bucket}/run/", f"output.path={bucket}/explained", "explain.method=pooling"]
    assert main.run(order) == 0
    told = capsys.readouterr().out
    assert "Read 12 records" in told and f"polars.scan_parquet('{bucket}/explained/explanations/*.parquet')" in told
    assert len(plainly) > coded + 1
    assert main.run(arguments(coded_run, tmp_path / "here", f"input.path={some}", "explain.method=pooling")) == 0
    (file,) = storage.list(f"{bucket}/explained/explanations")
    same = ["record_id", "decision", "failure", "targets"]
    assert pl.read_parquet(storage.read(file.path)).select(same).equals(table(tmp_path / "here").select(same))
    for entry in storage.list(bucket):
        assert store.url.encode() not in storage.read(entry.path), entry.path
    capsys.readouterr()
    assert main.run(order) == 0 and "Nothing new to do" in capsys.readouterr().out
    # The reports are others now than those that the run read.
    with storage.writer(f"{bucket}/in/some.parquet") as stream:
        stream.write(coded_run.reports.read_bytes())
    assert main.run([*order, f"output.path={bucket}/again"]) == 2
    error = capsys.readouterr().err
    assert "name the reports" in error and error.count("\n") == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_on_ray_it_is_the_same(coded_run, tmp_path, plainly):
    order = ["explain.sample=5", "explain.method=pooling"]
    assert main.run(arguments(coded_run, tmp_path / "here", *order)) == 0
    command = [sys.executable, "-m", "jobs.explain", *arguments(coded_run, tmp_path / "ray", *order)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=500)
    here, there = (table(tmp_path / name).select("record_id", "decision", "method", "text_sha256") for name in ("here", "ray"))
    assert here.equals(there)
