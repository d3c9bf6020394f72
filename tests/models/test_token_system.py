"""What a system for texts has from its base, by a toy of one embedding and one linear layer; with Ray it is in tests/pipeline."""

import numpy as np
import pytest
import torch

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models import checkpoint, run
from engine.models.base import ModelSpec, load
from engine.models.code_system import calibration_file
from engine.models.code_task import TaskCalibration
from engine.models.columns import list_values, matrix
from engine.models.run import prepare, records_of, rows
from tests.toys import mean

TEXTS = {"a": "colon carcinoma", "b": "lung", "c": "colon " * 200, "d": "", "e": "\x00"}


def written(folder):
    """A model that says C18 where `colon` makes a good part of the text, else C34."""
    config = mean.config()
    tensors = {name: torch.zeros_like(value) for name, value in mean.Network(config).state_dict().items()}
    (word,) = load_tokenizer(encoder_folder("tiny:bert")).encode("colon", add_special_tokens=False).ids
    tensors["words.weight"][word, 0] = 4.0
    tensors["head.weight"][0, 0], tensors["head.bias"][1] = 1.0, 1.0
    mean.Mean.write(folder, config, tensors, "a card\n")
    checkpoint.revise(folder, calibration_file({"site": TaskCalibration(threshold=0.9)}), "a card\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("mean") / "model")


def system(folder, runtime=None, **options):
    return load(ModelSpec("tests.toys.mean", str(folder), options, runtime or {}))


def test_rows_by_hand(folder):
    found = {row["record_id"]: row for row in rows(TEXTS, model=str(folder)).to_pylist()}
    tokens = len(load_tokenizer(folder).encode(TEXTS["a"], add_special_tokens=False).ids)
    # The mean has one token of `colon`, and the bias speaks for the other code.
    assert found["a"]["site_prob"] == pytest.approx(1 / (1 + np.exp(-abs(4 / tokens - 1))))
    assert found["b"]["site_code"] == "C34" and found["b"]["site_prob"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert found["c"]["site_code"] == "C18" and found["c"]["site_prob"] == pytest.approx(1 / (1 + np.exp(-3)))
    assert [found[name]["decision"] for name in "abc"] == ["review", "review", "auto"]
    assert [found["c"][name] for name in ("n_tokens", "n_windows", "truncated_chars")] == [200, 4, 0]
    assert [found[name]["failure"]["kind"] for name in "de"] == ["missing_text", "missing_text"]
    assert {row["model_digest"] for row in found.values()} == {system(folder).digest}


def test_scores_are_the_logits_of_each_task(folder):
    made = system(folder)
    _, prepared = prepare(made, records_of(TEXTS, TEXTS.values()))
    scores = made.scores(prepared)
    assert scores.column_names == ["row", "site_logits"]
    found = dict(zip(scores["row"].to_pylist(), matrix(scores["site_logits"]).tolist(), strict=True))
    assert found[1] == [0.0, 1.0] and found[2] == pytest.approx([4.0, 1.0]) and found.keys() == {0, 1, 2}


@pytest.mark.parametrize("options", [{}, {"deterministic": True}])
def test_batches_hold_whole_records_within_the_budget(folder, options):
    made = system(folder, {"batch_tokens": 150}, **options)
    texts = {str(number): "lung " * number for number in range(1, 180, 13)}
    prepared = made.prepare(records_of(texts, texts.values()))
    seen = []
    for members, batch in made.batches(prepared):
        assert batch.row == [prepared["row"][member].as_py() for member in members]
        assert batch.ids.numel() <= 150 or len(members) == 1
        assert len(members) == 1 or not options
        for place, member in enumerate(members):
            mine = batch.record == place
            assert batch.ids[mine][batch.text[mine]].tolist() == list_values(prepared["input_ids"])[member].tolist()
        seen += members
    assert sorted(seen) == list(range(len(texts))) and made.window_counts(prepared)[-1] == 3


def test_deterministic_is_one_thread_and_a_budget_that_no_machine_chooses(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("engine.models.checkpoint_system.set_threads", asked.append)
    for options in ({}, {"deterministic": True}):
        made = system(folder, {"threads": 2, "batch_tokens": 64}, **options)
        assert made.network is made.network and made.budget == (4096 if options else 64)
    assert asked == [2, 1]


def test_a_network_that_is_made_in_inference_mode_can_have_gradients(folder):
    made = system(folder)
    with torch.inference_mode():
        weight = made.network.words.weight
    assert not weight.is_inference()


def test_out_of_memory_is_halved_down_to_the_record_that_does_not_fit(folder, monkeypatch):
    made, asked = system(folder), []
    predict = mean.Mean.predict

    def tight(self, batch):
        asked.append(batch.records)
        if batch.records > 1 or len(batch.ids) > 3:
            raise MemoryError
        return predict(self, batch)

    monkeypatch.setattr(mean.Mean, "predict", tight)
    monkeypatch.setattr(run, "system_of", lambda spec: made)
    found = {row["record_id"]: row for row in rows(TEXTS, model=str(folder)).to_pylist()}
    assert {name: row["failure"] and row["failure"]["kind"] for name, row in found.items()} == {
        **{"a": None, "b": None, "c": "out_of_memory"},
        **{"d": "missing_text", "e": "missing_text"},
    }
    assert 2 in asked and found["b"]["site_code"] == "C34"


def test_options_and_checkpoints_that_cannot_be_are_one_line(folder, tmp_path):
    for options, told in (({"treshold": 0.5}, "did you mean 'thresholds'"), ({"thresholds": {"site": 2.0}}, "from 0 to 1")):
        with pytest.raises(ConfigError, match=told):
            system(folder, **options)
    with pytest.raises(ConfigError, match=r"^model\.system: .* is a model of tests\.toys\.mean and not of engine\.models\."):
        rows({"a": "x"}, system=run.shipped_system("codes"), model=str(folder))
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        rows({"a": "x"}, model=str(tmp_path))
