"""Training in this process, and models that are kept for whoever trains alike."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from engine.experiments.here import keep_model, kept_model, learned_from, trained
from tests.training.test_loop import CONFIG, Line, values

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import os, signal, sys
from pathlib import Path
from engine.experiments.here import trained
from tests.experiments.test_here import CONFIG, Learner

def report(row):
    if row["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)

trained(Learner(), CONFIG, Path(sys.argv[1]), report)
"""


class Learner(Line):
    device = torch.device("cpu")


def test_a_training_that_was_killed_goes_on_and_ends_where_it_would_have(tmp_path):
    whole, rows = Learner(), []
    curve = trained(whole, CONFIG, tmp_path / "whole", rows.append)
    assert [row["step"] for row in curve] == [row["step"] for row in rows] == list(range(1, 10))
    command = [sys.executable, "-c", DIES, str(tmp_path / "killed")]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=100).returncode == -signal.SIGKILL
    again, rows = Learner(), []
    found = trained(again, CONFIG, tmp_path / "killed", rows.append)
    # A checkpoint every second step.
    assert [row["step"] for row in rows] == list(range(5, 10))
    assert values(again) == values(whole) and [row["loss_square"] for row in found] == [row["loss_square"] for row in curve]
    once, rows = Learner(), []
    assert trained(once, CONFIG, tmp_path / "killed", rows.append) == found
    assert not rows and values(once) == values(whole)


def test_a_kept_model_is_put_in_place_with_its_curve(tmp_path):
    learner, file = Learner(), tmp_path / "models" / "a.safetensors"
    assert kept_model(learner, file) is None
    curve = trained(learner, CONFIG, tmp_path / "work")
    for _ in range(2):
        keep_model(learner, curve, file)
    assert [path.name for path in file.parent.iterdir()] == ["a.safetensors"]
    other = Learner()
    assert kept_model(other, file) == curve and values(other) == values(learner)


def test_a_model_is_named_by_its_settings_and_its_texts_in_their_order():
    names = [
        learned_from({"rate": 1, "seed": 2}, ["a", "b"]),
        learned_from({"rate": 1, "seed": 3}, ["a", "b"]),
        learned_from({"rate": 1, "seed": 2}, ["b", "a"]),
        learned_from({"rate": 1, "seed": 2}, [["a", "\ud800"], "b"]),
    ]
    assert learned_from({"seed": 2, "rate": 1}, iter(["a", "b"])) == names[0] and len(set(names)) == 4
