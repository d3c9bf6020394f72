"""Phases and the table between them: a training killed in each goes on where it was and ends as one that never stopped."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import tests.toys.learned as toy
import tests.toys.learned.recipe as toy_recipe
from engine.errors import ConfigError
from engine.models.base import ModelSpec, SideTable, recipe
from engine.models.base import load as load_system
from engine.training.config import LoopConfig
from engine.training.run import resume_message, train_phases

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)
KILLS = ("slope:7", "table:1", "shift:5")
# What the last two steps before a death saved may not have reached Ray yet.
SAID = (
    "the same command goes on after step [4-6] of 15 of the phase slope",
    "no step of the phase shift is saved yet; the same command starts at the first step",
    "the same command goes on after step [2-4] of 10 of the phase shift",
)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """y = 3 x + 1 and some noise, by splits."""
    rng, made = np.random.default_rng(0), {}
    for split, count in (("train", 20), ("valid", 8), ("test", 8)):
        x = rng.uniform(-1, 1, count)
        made[split] = [[float(a), float(b)] for a, b in zip(x, 3 * x + 1 + 0.5 * rng.normal(size=count), strict=True)]
    path = tmp_path_factory.mktemp("points") / "points.json"
    path.write_text(json.dumps(made))
    return path


def trained(points, output, *, die="", here=True, cluster=None):
    order = {"data": str(points), "output": str(output), "here": here, "cluster": cluster or {}}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIE": die, "RAY_worker_niceness": "0"}
    command = [sys.executable, "-m", "tests.toys.train", json.dumps(order)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def figures(output):
    """Those of a checkpoint, without what a clock says."""
    found = json.loads((output / "figures.json").read_text())
    clocked = ("tokens_per_second", "steps_per_second")
    return {**found, "curve": [{name: row[name] for name in row if name not in clocked} for row in found["curve"]]}


def killed_in_each(points, output, here):
    for die, line in zip(KILLS, SAID, strict=True):
        done = trained(points, output, die=die, here=here)
        assert done.returncode == -9, done.stderr[-2000:]
        # Without Ray no progress is kept of which it could be said how far a phase is.
        message = resume_message(str(output))
        assert f"of the phase {'slope' if die == KILLS[0] else 'shift'}" in message and (here or re.fullmatch(line, message))
    done = trained(points, output, here=here)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.long
def test_a_training_of_two_phases_killed_in_each_and_between_ends_as_one_that_was_not(points, tmp_path):
    whole = trained(points, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    killed = killed_in_each(points, tmp_path / "killed", here=True)
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    for name in ("model.safetensors", *toy.FILES, "digest.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # What was done already was not done again.
    assert "phase 1 of 2" in whole.stderr and "phase 1 of 2" not in killed.stderr and "step 4 of 10" not in killed.stderr
    # Nothing but the claim stays of what passed between the phases.
    assert [path.name for path in (tmp_path / "killed" / "_training").iterdir()] == ["settings.json"]
    again = trained(points, tmp_path / "killed")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert resume_message(str(tmp_path / "killed")) == "the checkpoint is complete; the same command shows its figures"


def test_the_product_is_what_is_settled_and_measured(points, tmp_path):
    assert trained(points, tmp_path / "model").returncode == 0
    found, given = figures(tmp_path / "model"), json.loads(points.read_text())
    system = load_system(ModelSpec("tests.toys.learned", str(tmp_path / "model")))
    x, y = np.array(given["test"]).T
    assert found["digest"] == system.digest
    assert found["error"] == pytest.approx(np.abs(y - system.run(x)).mean())
    x, y = np.array(given["valid"]).T
    assert found["offset"] == pytest.approx(np.mean(y - system.scores(x)))
    # Both phases stand in the weights, and in the curve.
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == {"w", "b", "c"}
    assert pq.read_table(tmp_path / "model" / "curve.parquet")["phase"].to_pylist() == [1] * 15 + [2] * 10


@pytest.mark.long
def test_the_same_through_ray(points, tmp_path):
    whole = trained(points, tmp_path / "whole", here=False)
    assert whole.returncode == 0, whole.stderr[-2000:]
    killed_in_each(points, tmp_path / "killed", here=False)
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    for name in ("model.safetensors", *toy.FILES, "digest.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


SEEN = pa.schema([("part", pa.int64()), ("tables", pa.list_(pa.string())), ("before", pa.bool_())])


def seen(part, settings):
    """What the work on a part of a table is told."""
    return pa.table([[part], [sorted(settings.get("tables", {}))], ["before" in settings]], schema=SEEN)


def joined(parts, settings):
    return pa.concat_tables(parts)


def test_a_phase_gets_the_tables_that_it_needs_one_after_the_other_also_the_first_one(points, tmp_path):
    def table(name):
        return SideTable(name, SEEN, [0, 1], f"{__name__}:seen", f"{__name__}:joined")

    slope, shift = toy_recipe.phases({})
    first = replace(slope, needs=(table("early"), table("later")))
    last = replace(shift, needs=(*shift.needs, table("third")))
    corpus, lines = toy_recipe.corpus({"data": {"path": str(points)}}), []
    loop = LoopConfig(epochs=1, batch=4, report_every=1000)
    state = train_phases(SimpleNamespace(phases=lambda settings: [first, last]), corpus, loop, tmp_path, lines.append)
    assert [line.removeprefix("building the table ") for line in lines if line.startswith(("building", "phase"))] == [
        "early", "later", "phase 1 of 2: slope", "errors", "third", "phase 2 of 2: shift"
    ]  # fmt: skip
    told = {}
    for path in tmp_path.glob("*/*/part-0.parquet"):
        if path.parent.name != "errors":
            told[path.parent.name] = pq.read_table(path).to_pylist()
    both = [({"part": 0}), ({"part": 1})]
    assert told == {
        "early": [{**part, "tables": [], "before": False} for part in both],
        "later": [{**part, "tables": ["early"], "before": False} for part in both],
        # Of the phase before, its tables and its tensors are there too.
        "third": [{**part, "tables": ["early", "errors", "later"], "before": True} for part in both],
    }
    assert set(state[0]) == {"w", "b", "c"}
    # The same call again computes nothing.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    train_phases(SimpleNamespace(phases=lambda settings: [first, last]), corpus, loop, tmp_path, lines.append)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


def test_a_system_without_a_recipe_cannot_be_trained():
    with pytest.raises(ConfigError, match=r"tests\.toys\.plain cannot be trained; it has no recipe"):
        recipe("tests.toys.plain")
