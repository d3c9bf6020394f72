from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.models.code_task import TaskCalibration
from engine.models.columns import list_values, matrix
from engine.models.site_classifier.checkpoint import write_checkpoint
from engine.models.site_classifier.config import HEADS, LearnConfig
from engine.models.site_classifier.head_learner import HeadLearner
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import States, TextStates, encode
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from tests.models.conftest import TASKS, TEXTS, coded, coder, head_tensors, records, write_tiny

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path):
    return coder(write_tiny(tmp_path / "base"), method="none")


@pytest.fixture
def states(base, tmp_path):
    return encode(base, base.prepare(records(TEXTS)), tmp_path / "states")


def examples(base, **changes):
    prepared = base.prepare(records(TEXTS))
    values = {
        "record_id": prepared["record_id"].to_pylist(),
        "ids": list_values(prepared["input_ids"]),
        "labels": {task.name: np.arange(len(TEXTS)) % len(task.labels) for task in TASKS},
        "train": np.ones(len(TEXTS), dtype=bool),
        "valid": np.ones(len(TEXTS), dtype=bool),
    }
    return Examples(**{**values, **changes})


def head(base, name, states, **learn):
    torch.manual_seed(2)
    config = replace(base.config, head=name)
    network = SiteNetwork(config, base.network.encoder)
    return HeadLearner(network, examples(base), states, LearnConfig(windows=99, budget=200, **learn), CPU)


def test_the_same_head_on_cached_states_answers_as_the_model_does(base, states):
    learner = head(base, "pooling", states)
    learner.network = base.network
    with torch.no_grad():
        batches = (next(learner._batches([row], 0)) for row in range(5))
        logits = {row: learner._forward(batch, [row], None).logits for batch, (row,) in batches}
    scores = base.scores(base.prepare(records(TEXTS)))
    expected = {task: matrix(scores[f"{task}_logits"]) for task in base.known()}
    for task in expected:
        for row in range(len(TEXTS)):
            assert np.allclose(logits[row][task][0].numpy(), expected[task][row], atol=5e-3)


def test_states_are_read_and_not_encoded_again(base, states, tmp_path, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "states").rglob("*")}
    monkeypatch.setattr(base.network, "encode", lambda *given, **more: pytest.fail("encoded again"))
    again = encode(base, base.prepare(records(TEXTS)), tmp_path / "states")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "states").rglob("*")} == files
    assert len(again) == len(TEXTS)
    for row, ids in enumerate(examples(base).ids):
        assert np.array_equal(again.of(row, [(0, len(ids))]), states.of(row, [(0, len(ids))]))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_and_becomes_a_checkpoint_that_codes(base, states, tmp_path, name):
    learner = head(base, name, states, masking=0.5)
    assert not any(key.startswith("encoder.") for key in learner.parameters())
    curve = train(learner, LoopConfig(epochs=15, batch=5, rate=0.02, report_every=1), Worker(), tmp_path / "train")
    # The first token of an encoder that never learned anything hardly knows what stands behind it.
    assert curve[-1]["loss_site"] < (0.9 if name == "cls" else 0.7) * curve[0]["loss_site"]
    adapter = load_file(base.checkpoint.folder / "model.safetensors").items()
    tensors = {name: value for name, value in adapter if name.startswith("encoder.")} | head_tensors(learner.network)
    fitted = {task.name: TaskCalibration() for task in TASKS}
    write_checkpoint(tmp_path / "made", learner.network.config, tensors, fitted, "attention", frozenset(), "a card\n")
    rows = coded(coder(tmp_path / "made"), TEXTS)
    assert name == "cls" or [row["site_code"] for row in rows[:3]] == [
        TASKS[0].labels[i % len(TASKS[0].labels)] for i in range(3)
    ]


def test_heads_have_large_micro_batches_on_a_cpu(base, states):
    learner = head(base, "target", states)
    assert learner.budget == 200
    learner.config = replace(learner.config, budget=0)
    assert learner.budget == 8192


def test_masked_tokens_have_no_weight_and_some_token_is_always_shown(base, states):
    learner = head(base, "target", states, masking=1.0)
    batch, members = next(learner._batches([0, 1, 2, 3, 4], 0))
    whole = batch.text.clone()
    weights = learner._forward(batch, members, 3).attended["site"].weights[..., 0]
    assert (batch.text < whole).any() and (weights[~batch.text] == 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(len(members)), atol=1e-5)


@pytest.mark.parametrize("name", ["target", "dpla"])
def test_masked_tokens_take_no_part(base, states, name):
    learner = head(base, name, states, masking=1.0)

    def shown():
        batch, members = next(learner._batches([0, 1, 2, 3], 0))
        with torch.no_grad():
            return batch, members, learner._forward(batch, members, 3).logits["site"]

    batch, members, first = shown()
    changed, ids = [], learner.examples.ids
    for member, tokens in enumerate(ids):
        whole = states.of(member, [(0, len(tokens))])
        changed.append(States(whole[1:], np.array([0, len(tokens)]), whole[:1]))
    for row, member in enumerate(members):
        gone = batch.position[row][~batch.text[row] & (batch.position[row] >= 0)]
        changed[member].tokens[gone.numpy()] = 7.0
    assert any((part.tokens == 7.0).any() for part in changed)
    learner.states = TextStates([(part, 0) for part in changed], states.width)
    assert torch.allclose(shown()[2], first, atol=1e-6)


@pytest.mark.parametrize("name", ["target", "pooling"])
def test_states_go_to_the_device_of_the_network(base, states, name):
    network = SiteNetwork(replace(base.config, head=name), base.network.encoder)
    learner = HeadLearner(network, examples(base), states, LearnConfig(windows=99, masking=0.5), torch.device("meta"))
    shown = learner._forward(*next(learner._batches([0, 1, 2], 0)), 3)
    whole = learner._forward(*next(learner._batches([0, 1, 2], 0)), None)
    assert {each.logits["site"].device.type for each in (shown, whole)} == {"meta"}
