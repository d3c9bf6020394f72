"""`jobs.explain` as a user starts it, on a finished run."""

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from engine.models.base import ModelSpec
from engine.models.run import system_of
from engine.pipeline import ClusterConfig, RunConfig, stages, work
from engine.pipeline.commit import commit
from engine.pipeline.layout import Layout
from engine.sources import InputConfig
from engine.storage import storage_for
from engine.text.units import UNIT_KINDS
from jobs import code_reports
from jobs.explain import main
from tests.pipeline.conftest import Bench

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
            facts = {"bytes": planned.bytes, "seconds": {}, "model_at": datetime.now(UTC).isoformat()}
            yield commit(storage_for(job.output), Layout(job.output), planned.name, 1, table, **facts)

    monkeypatch.setattr(stages, "receipts", receipts)
    monkeypatch.setattr(cluster, "connected", lambda _: contextlib.nullcontext())
    return done


def test_entities_of_a_run_are_explained_with_their_measures(entities_run, tmp_path, plainly, capsys):
    output = tmp_path / "explained"
    order = arguments(entities_run, output, "explain.method=attnlrp", "explain.faithfulness=1", "explain.stability=1")
    order += ["explain.perturbations=2", "explain.sample=4"]
    assert main.run(order) == 0
    assert "Read 8 records" in capsys.readouterr().out
    found = table(output)
    assert found["record_id"].to_list() == entities_run.entities["record_id"].to_list()
    assert dict(found["decision"].value_counts().iter_rows()) == {"auto": 4, "not_applicable": 3, "failed": 1}
    both = found.filter(pl.col("targets").is_not_null()).join(entities_run.entities, on="record_id")
    texts = dict(pl.read_parquet(entities_run.reports).select("record_id", "text").iter_rows())
    for row in both.iter_rows(named=True):
        spans = [(target["target_name"], target["target_start"], target["target_end"]) for target in row["targets"]]
        assert spans == [(each["type"], each["start"], each["end"]) for each in row["entities"]] and spans
        for target in row["targets"]:
            measures = ("comp_aopc", "suff_aopc", "random_comp", "flip_rate", "boundary_mass", "boundary_lift", "boundary_faith")
            assert (target["target_kind"], target["status"]) == ("span", "ok")
            assert all(target[f"m_{name}"] is not None for name in (*measures, "shift_margin"))
            kinds = {UNIT_KINDS[unit["kind"]] for unit in target["units"]}
            assert kinds == {"word", "prompt", "soft_prompt"}
            # The run's own question stands in front of the text, with its comma.
            words = [unit["text"] for unit in target["units"] if unit["text"]]
            assert ("," in words) == (target["target_name"] == "B")
            assert all(texts[row["record_id"]][span["start"] : span["end"]].strip() for span in target["selected_spans"])
    settings = json.loads((output / "_run.json").read_text())["settings"]
    assert settings["model.options.of"] == "engine.models.prompt_mrc"
    assert settings["model.options.options.questions.B"] == "which tree, or hill, is named"
    assert main.run(order) == 0 and "Nothing new to do" in capsys.readouterr().out
    again = tmp_path / "again"
    assert main.run(arguments(entities_run, again, f"input.path={entities_run.reports}", *order[-4:], "explain.tasks=[B]")) == 0
    for row in table(again).filter(pl.col("targets").is_not_null()).iter_rows(named=True):
        assert {target["target_name"] for target in row["targets"]} == {"B"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["explain.tasks=[Z]"], "explain.tasks: the run looked for no type 'Z'; it did for A, B"),
        (["explain.targets={A: B}"], "explain.targets: entities have no code"),
        (["explain.method=pooling"], "explain.method: an extractor of entities has no 'pooling'"),
        (["explain.erasure=delete"], "explain.erasure: an extractor of entities has no 'delete'; it has mask"),
        (["model.path=shipped"], "is not the model of this run"),
    ],
)
def test_what_entities_have_not_is_refused_in_one_line(entities_run, tmp_path, capsys, more, message):
    assert main.run(arguments(entities_run, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_run_that_explains_is_not_explained_itself(entities_run, tmp_path, plainly, capsys):
    output = tmp_path / "explained"
    assert main.run(arguments(entities_run, output, "explain.method=grad_l2", "explain.sample=1")) == 0
    capsys.readouterr()
    assert main.run(arguments(replace(entities_run, output=output), tmp_path / "again")) == 2
    err = capsys.readouterr().err
    assert "a run whose answers cannot be explained" in err and err.count("\n") == 1


def arguments(run, output, *more):
    common = [f"run={run.output}", f"model.path={run.model}", f"output.path={output}", "cluster.actors=1", "cluster.threads=1"]
    return [*common, "cluster.shard_kb=2", "explain.steps=5", *more]


def table(output):
    return pl.read_parquet(output / "explanations" / "*.parquet")


def test_a_sample_of_a_run_is_explained_with_one_row_a_record(coded_run, tmp_path, plainly, capsys):
    output = tmp_path / "explained"
    order = arguments(coded_run, output, "explain.sample=7", "explain.faithfulness=1", "explain.stability=0.5")
    assert main.run(order) == 0
    message = capsys.readouterr().out
    assert "Read 60 records" in message
    counted = duckdb.sql(re.search(r'duckdb\.sql\("(.*)"\)', message)[1]).fetchall()
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
    assert settings["model.options.run"] == coded_run.codes["run_id"][0] and settings["model.options.steps"] == 5
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
    ("more", "message"),
    [
        (["explain.targets={site: C99}"], "no code 'C99'"),
        (["explain.method=magic"], "explain.method: 'magic' is not allowed"),
        (["model.path=shipped"], "is not the model of this run"),
        (["run={reports}"], "holds no run"),
        (["input.path={reports}/none"], "there is no file or folder"),
        (["output.path={run}"], "belongs to another run"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(coded_run, tmp_path, capsys, more, message):
    places = {"{reports}": str(coded_run.reports.parent), "{run}": str(coded_run.output)}
    for name, value in places.items():
        more = [each.replace(name, value) for each in more]
    assert main.run(arguments(coded_run, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.fixture
def month_by_month(coded_run, tmp_path):
    """A finished run over a folder of two files that number their records themselves; its input, model and output."""
    table = pl.read_parquet(coded_run.reports).select("text")
    write(tmp_path / "in" / "2024" / "january.parquet", table[:4])
    write(tmp_path / "in" / "2024" / "february.parquet", table[4:7])
    options = {"precision": "fp32", "method": "none"}
    spec = ModelSpec("engine.models.site_classifier", str(coded_run.model), options, {"threads": 1})
    bench = Bench(RunConfig(InputConfig(str(tmp_path / "in"), id=None), spec, str(tmp_path / "run"), ClusterConfig()))
    bench.code()
    bench.publish()
    return replace(coded_run, reports=tmp_path / "in", output=tmp_path / "run")


def write(path, table):
    path.parent.mkdir(exist_ok=True, parents=True)
    table.write_parquet(path)


def decisions(output):
    return dict(table(output).sort("record_id").select("record_id", "decision").iter_rows())


def test_what_the_run_read_is_explained_though_more_has_come_since(month_by_month, tmp_path, plainly, capsys):
    order = arguments(month_by_month, tmp_path / "one", "explain.method=pooling")
    assert main.run(order) == 0
    before = decisions(tmp_path / "one")
    assert len(before) == 7 and set(before.values()) == {"auto", "failed"}
    write(month_by_month.reports / "2024" / "march.parquet", pl.DataFrame({"text": ["New."]}))
    (month_by_month.reports / "notes.txt").write_text("No report.")
    assert main.run(arguments(month_by_month, tmp_path / "two", "explain.method=pooling")) == 0
    assert decisions(tmp_path / "two") == before
    capsys.readouterr()
    assert main.run(order) == 0 and "Nothing new to do" in capsys.readouterr().out


@pytest.mark.parametrize("grown", [False, True])
def test_an_input_that_was_moved_is_told_by_its_new_place(month_by_month, tmp_path, plainly, capsys, grown):
    order = arguments(month_by_month, tmp_path / "out", "explain.method=pooling")
    month_by_month.reports.rename(tmp_path / "moved")
    assert main.run(order) == 2
    error = capsys.readouterr().err
    assert "2024/february.parquet (and 1 more) is gone or changed" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    if grown:
        write(tmp_path / "moved" / "2024" / "march.parquet", pl.DataFrame({"text": ["New."]}))
    assert main.run([*order, f"input.path={tmp_path / 'moved'}"]) == 0
    found = table(tmp_path / "out")
    assert len(found) == 7 and set(found["source"]) == {"2024/january.parquet", "2024/february.parquet"}
    assert found["failure"].struct.field("kind").drop_nulls().to_list() == ["missing_text"]


def test_a_wider_folder_that_holds_the_input_is_the_input(month_by_month, tmp_path, plainly):
    write(tmp_path / "other.parquet", pl.DataFrame({"text": ["New."]}))
    wider = f"input.path={tmp_path}/*/*/*.parquet"
    assert main.run(arguments(month_by_month, tmp_path / "out", "explain.method=pooling", wider)) == 0
    assert set(table(tmp_path / "out")["source"]) == {"2024/january.parquet", "2024/february.parquet"}


def test_a_file_that_changed_since_the_run_is_named(month_by_month, tmp_path, capsys):
    file = month_by_month.reports / "2024" / "january.parquet"
    os.utime(file, ns=(1, 1))
    assert main.run(arguments(month_by_month, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "2024/january.parquet is gone or changed since the run read it" in error and error.count("\n") == 1


def test_tables_may_stand_beside_a_single_file_of_reports(coded_run, tmp_path, plainly, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = arguments(coded_run, coded_run.reports.parent / "explained", "explain.method=pooling", "explain.sample=2")
    assert main.run(order) == 0


@pytest.mark.parametrize(
    ("more", "actors", "most"),
    [
        (["explain.steps=50", "explain.faithfulness=1"], 1, 2),
        (["explain.method=attnlrp", "explain.faithfulness=1"], 1, 7),
        (["explain.method=attnlrp", "explain.faithfulness=0"], 4, 6),
        (["explain.method=attnlrp", "explain.faithfulness=0"], 1, 7),
        (["explain.method=attnlrp", "explain.faithfulness=1", "explain.sample=10"], 1, 7),
        (["explain.method=attnlrp", "explain.faithfulness=1", "cluster.gpus_per_actor=1"], 1, 30),
    ],
)
def test_shards_are_small_where_explaining_is_slow(coded_run, tmp_path, monkeypatch, more, actors, most):
    """60 reports of some 200 bytes; a second of one core's work is 8 KiB of text once through the encoder."""
    seen = []
    monkeypatch.setattr("jobs.explain.run_and_tell", seen.append)
    order = [f"run={coded_run.output}", f"model.path={coded_run.model}", f"output.path={tmp_path / 'out'}"]
    assert main.run([*order, f"cluster.actors={actors}", "explain.stability=0", *more]) == 0
    assert max(shard.rows for shard in Bench(seen[0]).plan.shards) == most


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
    message = capsys.readouterr().out
    assert "Read 12 records" in message and f"polars.scan_parquet('{bucket}/explained/explanations/*.parquet')" in message
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
@pytest.mark.parametrize(("name", "method"), [("coded_run", "pooling"), ("entities_run", "attnlrp")])
def test_on_ray_it_is_the_same(request, tmp_path, plainly, name, method):
    run = request.getfixturevalue(name)
    order = ["explain.sample=5", f"explain.method={method}"]
    assert main.run(arguments(run, tmp_path / "here", *order)) == 0
    command = [sys.executable, "-m", "jobs.explain", *arguments(run, tmp_path / "ray", *order)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=500)
    here, there = (table(tmp_path / name).select("record_id", "decision", "method", "text_sha256") for name in ("here", "ray"))
    assert here.equals(there)
