"""A whole report in one window of 4,096 tokens, from the command line to the table."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import polars as pl
import torch

from engine.encoders import load_encoder
from engine.models.code_task import TaskCalibration
from engine.models.site_classifier.checkpoint import read_checkpoint, write_head
from engine.models.site_classifier.network import SiteNetwork
from tests.models.conftest import head_tensors, tiny_config, write_tiny
from tests.pipeline.drivers import ROOT

LONG = "Specimen received in formalin. " * 700


def test_a_head_of_choice_reads_4096_tokens_at_once_in_a_run(tmp_path, cluster):
    model = write_tiny(tmp_path / "model", tiny_config(encoder="tiny:longformer", window=4094))
    add_head(model, "dpla")
    lines = [{"id": name, "text": text} for name, text in (("long", LONG), ("short", "Colon: adenocarcinoma."), ("none", ""))]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [f"input.path={tmp_path}/in.jsonl", "input.id=id", f"output.path={tmp_path}/out", f"model.path={model}"]
    words += ["model.head=dpla", "text.max_tokens=4094", f"cluster.address={cluster}", "cluster.actors=1", "cluster.threads=1"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.code_reports", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["record_id"]: row for row in pl.read_parquet(tmp_path / "out" / "codes" / "*.parquet").to_dicts()}
    assert rows["none"]["failure"]["kind"] == "missing_text"
    assert (rows["long"]["n_windows"], rows["long"]["n_tokens"]) == (1, 4094)
    assert "text_truncated" in rows["long"]["reasons"] and rows["long"]["truncated_chars"] > 0
    for name in ("long", "short"):
        assert rows[name]["site_evidence"] and rows[name]["model_digest"] == read_checkpoint(str(model), "dpla").digest


def add_head(folder, head):
    """Gives a checkpoint a further head that has learned nothing."""
    base = read_checkpoint(str(folder))
    shape = replace(base.config, head=head)
    torch.manual_seed(3)
    network = SiteNetwork(shape, load_encoder(shape.encoder, torch.float32, "eager"))
    calibration = {task.name: TaskCalibration() for task in shape.tasks}
    write_head(folder, shape, head_tensors(network), calibration, shape.evidence_methods[0], "card\n")
