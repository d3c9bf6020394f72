"""The training job as a user starts it, on a small corpus and a tiny encoder: Ray Train, calibration, checkpoint, card."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.sources.synthetic import generate
from engine.storage import storage_for
from engine.training.fit import STATE
from tests.models.conftest import coded, coder
from tests.store import Fault, error

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)
SETTINGS = [
    "model=site_classifier",
    "model.encoder=tiny:bert",
    "model.rank=2",
    "model.window=30",
    "train.epochs=1",
    "train.batch=16",
    "baseline=false",
    "evidence_sample=6",
    "cluster.precision=fp32",
    "cluster.threads=1",
]


def corpus(folder):
    table = pl.from_arrow(generate(150, 3, median_words=40, skew="uniform"))
    split = pl.int_range(pl.len()).map_elements(lambda i: ("train", "train", "train", "valid", "test")[i % 5], pl.String)
    table.with_columns(split=split, patient_id=pl.col("record_id")).write_parquet(folder / "reports.parquet")
    return folder / "reports.parquet"


def train(*settings, folder=None):
    """Runs the job, standing in `folder`."""
    command = [sys.executable, "-m", "jobs.train", *SETTINGS, *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=560, env=environment, cwd=folder)


@pytest.mark.long
def test_a_checkpoint_that_codes_and_a_second_start_with_other_settings_refused(tmp_path):
    data, output = corpus(tmp_path), tmp_path / "model"
    # Paths as people give them: Ray's workers do not stand in the folder of the command.
    done = train(f"data.path={data.name}", f"output.path={output.name}", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "site: accuracy" in done.stdout
    found = read_checkpoint(str(output))
    assert found.config.encoder == "tiny:bert"
    card = (output / "README.md").read_text()
    assert "keepable at 98 %" in card and f"output.path={output.name}" in card
    figures = json.loads((output / "figures.json").read_text())
    assert figures["digest"] == found.digest
    assert figures["curve"][-1]["step"] == figures["curve"][-1]["steps"]
    rows = coded(coder(output), pq.read_table(data)["text"].to_pylist()[:3])
    assert all(row["site_evidence"] for row in rows)
    again = train(f"data.path={data}", f"output.path={output}", "train.rate=0.5")
    assert again.returncode == 2
    assert "other settings" in again.stderr and len(again.stderr.strip().splitlines()) == 1


@pytest.mark.long
def test_multi_label_and_paired_input_are_settings(tmp_path):
    table = pl.read_parquet(corpus(tmp_path))
    table = table.with_columns(labels=pl.concat_list("site", "histology"), question=pl.lit("where is it, and what"))
    table.write_parquet(tmp_path / "lists.parquet")
    output = tmp_path / "model"
    done = train(
        f"data.path={tmp_path / 'lists.parquet'}",
        f"output.path={output}",
        "data.labels={codes: labels}",
        "data.multi_label=[codes]",
        "data.pair=question",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads((output / "figures.json").read_text())["tasks"]["codes"]["model"]
    assert 0 <= figures["macro_f1"] <= 1
    assert read_checkpoint(str(output)).config.paired


@pytest.mark.long
def test_two_workers_end_where_one_does(tmp_path):
    data = corpus(tmp_path)
    accuracy = []
    for workers in (1, 2):
        output = tmp_path / f"model{workers}"
        done = train(f"data.path={data}", f"output.path={output}", f"cluster.workers={workers}")
        assert done.returncode == 0, done.stderr[-2000:]
        accuracy.append([row["loss_site"] for row in json.loads((output / "figures.json").read_text())["curve"]])
    assert accuracy[0] == pytest.approx(accuracy[1], rel=1e-3)


@pytest.mark.long
def test_data_and_checkpoint_on_s3_and_a_training_that_another_machine_ends(tmp_path, bucket, store, monkeypatch):
    data, output = corpus(tmp_path), f"{bucket}/model"
    assert storage_for(bucket).create(f"{bucket}/in/reports.parquet", data.read_bytes())
    steps = ["train.checkpoint_every=2", "train.report_every=1"]
    there = [f"data.path={bucket}/in/*.parquet", f"output.path={output}", f"storage.endpoint={store.url}", *steps]
    there += ["storage.region=us-east-1"]
    # The first machine may not write its second checkpoint.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    denied = error("AccessDenied", 403, f"PUT .*{STATE}", math.inf)
    with store.harmed(After(1, denied)):
        stopped = train(*there)
    assert stopped.returncode == 2 and "access is denied by the store" in stopped.stderr.splitlines()[-1], stopped.stderr[-2000:]
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        read_checkpoint(output)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    done = train(*there)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "step 3 of" in done.stderr and "step 2 of" not in done.stderr
    # The weights are those of a training that never stopped.
    whole = train(f"data.path={data}", f"output.path={tmp_path / 'model'}", *steps)
    assert whole.returncode == 0, whole.stderr[-2000:]
    mine = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert (read_checkpoint(output).folder / "model.safetensors").read_bytes() == mine
    for entry in storage_for(bucket).list(output):
        assert store.url.encode() not in storage_for(bucket).read(entry.path), entry.path
    again = train(*there)
    assert again.returncode == 0 and "nothing to do" in again.stderr
    other = train(*there, "train.rate=0.5")
    assert other.returncode == 2 and "other settings" in other.stderr


class After(Fault):
    """Does what another fault does, but for the first `free` requests that it would meet."""

    def __init__(self, free: int, fault: Fault) -> None:
        super().__init__(fault.pattern, fault.does, fault.times, fault.status, fault.body)
        self._free = free

    def meets(self, request: str) -> bool:
        if self._free and re.search(self.pattern, request):
            self._free -= 1
            return False
        return super().meets(request)


@pytest.mark.long
def test_all_seventy_sites_are_learned_coded_and_evaluated(tmp_path):
    corpus_folder, model, coded_folder = tmp_path / "corpus", tmp_path / "model", tmp_path / "codes"
    run("jobs.make_corpus", "records=1400", "skew=uniform", "text.median_words=30", f"output.path={corpus_folder}")
    table = pl.read_parquet(f"{corpus_folder}/*.parquet")
    sites = set(table["site"].to_list())
    assert len(sites) == 70
    split = pl.int_range(pl.len()).map_elements(lambda i: ("train", "train", "train", "valid", "test")[i % 5], pl.String)
    data = tmp_path / "labelled.parquet"
    table.with_columns(split=split, patient_id=pl.col("record_id")).write_parquet(data)
    done = train(f"data.path={data}", f"output.path={model}", "data.labels={site: site}", "data.held=256", "train.batch=32")
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(read_checkpoint(str(model)).config.task("site").labels) == sites
    read = [f"input.path={corpus_folder}", "input.id=record_id", "cluster.actors=1"]
    run("jobs.code_reports", *read, f"model.path={model}", f"output.path={coded_folder}")
    rows = pl.read_parquet(f"{coded_folder}/codes/*.parquet")
    assert sorted(rows["record_id"].to_list()) == sorted(table["record_id"].to_list())
    assert set(rows["site_code"].to_list()) <= sites and rows["site_code"].null_count() == 0
    run("jobs.evaluate", f"run={coded_folder}", f"gold={data}", "rounds=20", f"output.path={tmp_path / 'evaluation'}")
    figures = pl.read_parquet(tmp_path / "evaluation" / "metrics" / "metrics.parquet")
    found = {row["metric"]: row["value"] for row in figures.filter(slice="all", task="site").iter_rows(named=True)}
    right = rows.select("record_id", "site_code").join(table, on="record_id").select(pl.col("site_code") == pl.col("site"))
    assert found["accuracy"] == pytest.approx(right.to_series().mean())


def run(job, *settings):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", job, *settings], capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.long
def test_own_labels_without_split_or_patients_and_the_last_lines_say_what_lacks(tmp_path):
    table = pl.read_parquet(corpus(tmp_path)).select(number="record_id", report="text", site="site")
    table.write_parquet(tmp_path / "own.parquet")
    columns = ["data.id=number", "data.text=report", "data.labels={site: site}"]
    done = train(f"data.path={tmp_path / 'own.parquet'}", f"output.path={tmp_path / 'model'}", *columns, "baseline=true")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no column split: a hash of number decides train, valid and test" in done.stderr
    assert "no column patient_id: every report counts" in done.stderr and "0 min left" not in done.stderr
    for phase in ("scored ", "fitting the baseline for site on", "measuring evidence, 1 of ", "writing the checkpoint"):
        assert phase in done.stderr
    last = done.stdout[done.stdout.index("Before you use it:") :]
    assert "valid reports with a code are too few for a threshold: 98 % right with 95 % confidence takes 203" in last
    assert "test reports with a code prove only that the accuracy is at least" in last
