"""Training, settling and measuring by the base alone: the toy tagger on the made-up language."""

import json

import pytest

from engine.errors import ConfigError
from engine.models.base import recipe
from engine.training.config import LoopConfig
from engine.training.run import finish, train_phases
from tests.models.entities.conftest import PACKAGE
from tests.models.prompt_mrc.test_recipe import documents, write


def test_a_tagger_learns_is_settled_and_measured_as_the_product(tmp_path):
    trained = recipe(PACKAGE)
    settings = {"data": {"path": write(tmp_path / "made.parquet", documents(100))}, "learn": {"masking": 0.1}, "seed": 3}
    corpus = trained.corpus(settings)
    # An A within a B cannot be found beside it.
    assert "cannot be found beside them" in "\n".join(corpus.lines())
    loop = LoopConfig(epochs=6, batch=8, rate=5e-3, report_every=1000, checkpoint_every=10**6)
    state = train_phases(trained, corpus, loop, tmp_path / "work", lambda line: None)
    assert state[1][-1]["valid_f1"] > max(0.3, state[1][0]["valid_f1"])
    figures = finish(trained, corpus, state, tmp_path / "model", device="cpu", command="a command", say=lambda line: None)
    assert figures["test"]["all"]["f1"][0] > 0.3 and figures["types"] == ["A", "B"]
    assert figures["parameters"]["trained"] == figures["parameters"]["total"] > 1000
    assert figures["decoding"] == json.loads((tmp_path / "model" / "decoding.json").read_text())["decoding"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"Thresholds: least {figures['decoding']['least']:g}. Mentions are flat and have at most 4 words." in card
    assert any("thresholds were tuned on" in line for line in trained.cautions(figures))
    assert trained.report(figures)[0].startswith("all: exact F1 ")


def test_a_type_that_nobody_marked_is_refused(tmp_path):
    path = write(tmp_path / "made.parquet", documents(20))
    with pytest.raises(ConfigError, match=r"data\.types: no text of train has a 'C'; it has A, B"):
        recipe(PACKAGE).corpus({"data": {"path": path, "types": ["C"]}, "learn": {}, "seed": 1})
