"""`jobs.experiment` as a user starts it, with a toy in place of the experiments."""

import ast
import re
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.experiments import mrc_efficiency
from engine.experiments.run import Arm, Result
from engine.keys import build
from jobs import experiment
from jobs.experiment import main

METHODS = experiment.EXPERIMENTS["explain/methods"]


@dataclass(frozen=True)
class ToyConfig:
    path: str
    records: int
    model: str = "shipped"
    epochs: float = 2.0
    seeds: tuple[int, ...] = (1,)


class Toy:
    name = "explain/methods"

    def __init__(self, config):
        self.config = config

    def settings(self):
        return {"records": self.config.records, "seeds": self.config.seeds}

    def arms(self):
        return [Arm(f"seed-{seed}", seed) for seed in self.config.seeds]

    def measure(self, arm, work, say):
        return [Result("records", self.config.records), Result("epochs", self.config.epochs)]


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    """The toy as the default experiment; its file names what the toy needs."""
    monkeypatch.setitem(experiment.EXPERIMENTS, "explain/methods", (__name__, "Toy"))
    folder = tmp_path / "conf" / "experiment" / "explain"
    folder.mkdir(parents=True)
    (folder / "toy.yaml").write_text("# @package _global_\nname: explain/methods\nsizes: {records: 7, seeds: [3, 4]}\n")
    return f"--config-dir={tmp_path / 'conf'}"


def test_keys_reach_the_experiment_and_the_table_is_shown(toy, tmp_path, capsys):
    words = ["experiment=explain/toy", "data.path=a [b].parquet", f"output.path={tmp_path / 'out'}", "sizes.epochs=0.5", toy]
    assert main.run(words) == 0
    told = capsys.readouterr()
    assert "| seed-3 |  | 7.000 | 0.500 |" in told.out and "seed-4: done in" in told.err
    assert pq.read_table(tmp_path / "out" / "results.parquet").num_rows == 4
    assert main.run(words) == 0
    assert "seed-4: done before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["experiment=explain/toy"], "data.path: explain/methods needs it"),
        (["experiment=explain/toy", "data.path=a", "sizes.steps=5"], "sizes.steps: explain/methods has no use for it"),
        (["experiment=explain/toy", "data.path=a", "data.id=x"], "data.id: explain/methods has no use for it"),
        (["experiment=explain/toy", "data.pat=a"], "unknown key 'data.pat' (did you mean 'data.path'?)"),
        (["experiment=explain/method"], "no choice 'explain/method' (did you mean 'explain/methods'?)"),
        (["experiment=tcga"], "no choice 'tcga'"),
        (["name=explain/other"], "name: 'explain/other' is not allowed"),
        (["experiment=explain/toy", "data.path=a", "sizes.records=0"], "sizes.records: 0 is not allowed"),
    ],
)
def test_a_wrong_key_is_refused_in_one_line(words, told, toy, tmp_path, capsys):
    assert main.run([*words, f"output.path={tmp_path / 'out'}", toy]) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_other_settings_want_another_folder(toy, tmp_path, capsys):
    words = ["experiment=explain/toy", "data.path=a", f"output.path={tmp_path / 'out'}", toy]
    assert main.run(words) == 0
    assert main.run([*words, "sizes.records=8"]) == 2
    assert "records (7 there, 8 here)" in capsys.readouterr().err


def test_the_choices_are_the_experiments_of_this_job(capsys):
    assert main.run(["--help"]) == 0
    choices = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("experiment="))
    assert "explain/methods" in choices and "tcga" not in choices


def test_each_file_of_a_choice_names_its_experiment():
    for choice in main.groups({})["experiment"]:
        values, missing = main.compose([f"experiment={choice}"], {})
        assert values["name"] == choice in experiment.EXPERIMENTS
        assert [key.name for key in missing] == ["output.path"]


def test_every_key_that_a_file_sets_reaches_its_experiment(monkeypatch):
    monkeypatch.setitem(experiment.EXPERIMENTS, "explain/methods", METHODS)
    for choice in main.groups({})["experiment"]:
        values, _ = main.compose([f"experiment={choice}", "output.path=out"], {})
        module, name = experiment.EXPERIMENTS[choice]
        if "path" in {each.name for each in fields(getattr(import_module(module), f"{name}Config"))}:
            values["data"]["path"] = "reports.parquet"
        _, settings = experiment._experiment(build(experiment.Config, values))
        for part in ("data", "sizes"):
            for key, value in values[part].items():
                if value not in (None, [], {}):
                    assert getattr(settings, key) == (tuple(value) if isinstance(value, list) else value), (choice, part, key)


def test_keys_that_experiments_tell_of_are_keys():
    told = set()
    for path in Path(mrc_efficiency.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ConfigError", "RetryableError"):
                told |= set(re.findall(r"\b((?:data|sizes)\.[a-z_]+)", ast.unparse(node.args[0])))
    assert {"sizes.batch_tokens", "data.encoders"} <= told
    parts = {"data": experiment.Data, "sizes": experiment.Sizes}
    assert told <= {f"{part}.{each.name}" for part, of in parts.items() for each in fields(of)}
