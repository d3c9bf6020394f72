"""What training changes in the extractor, and what it leaves alone."""

import numpy as np
import pytest
import torch

from engine.models.entities.tuning import exact_figures
from engine.models.prompt_mrc.config import ModelConfig
from engine.models.prompt_mrc.learner import MrcLearner, sample_types
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from tests.models.prompt_mrc.conftest import World, taught, tiny_config, tiny_learner


def test_200_nested_sentences_are_learned_and_the_wrong_question_finds_other_spans(learned):
    assert learned.validate()["f1"] == 1.0
    members = np.flatnonzero(learned.examples.valid).tolist()
    nested = [m for m in members if {span.type for span in learned.examples.spans[m]} == {0, 1}]
    assert len(nested) > 50
    learned.network.queries.reverse()
    own = learned.network.soft.own.data.clone()
    learned.network.soft.own.data.copy_(own.flip(0))
    try:
        assert learned.validate()["f1"] < 0.5
    finally:
        learned.network.queries.reverse()
        learned.network.soft.own.data.copy_(own)
    assert learned.validate()["f1"] == 1.0


@pytest.mark.parametrize(("heads", "changed"), [(True, {"soft."}), (False, {"soft.", "start.", "end.", "match."})])
def test_with_a_frozen_encoder_only_prompts_and_unfrozen_heads_change(tmp_path, heads, changed):
    learner = tiny_learner(tiny_config(freeze_encoder=True, freeze_heads=heads), World.make(8))
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    train(learner, LoopConfig(epochs=1, batch=4), Worker(), tmp_path)
    after = learner.network.state_dict()
    different = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert different == {name for name in before if name.startswith(tuple(changed))}
    assert all(factor == 3.0 and not decay for factor, decay in learner.rates().values()) and len(learner.rates()) == 2


@torch.no_grad()
def test_a_records_loss_is_the_same_in_every_batch():
    learner = tiny_learner(world=World.make(6), masking=0.5)
    together = [sum(float(sum(terms.values())) for terms, _ in learner.losses(list(range(6)), 1))]
    alone = [float(sum(terms.values())) for member in range(6) for terms, _ in learner.losses([member], 1)]
    assert sum(alone) == pytest.approx(together[0], abs=1e-5)
    other = [float(sum(terms.values())) for member in range(6) for terms, _ in learner.losses([member], 2)]
    assert sum(other) != pytest.approx(sum(alone), abs=1e-4)


def test_the_loss_of_heads_that_know_nothing():
    learner = tiny_learner(world=World.make(1))
    learner.weights = MrcLearner.weights
    for head in (learner.network.start, learner.network.end):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    ((terms, _),) = list(learner.losses([0], 0))
    words = len(learner.examples.tokens[0].word_start)
    # The window is asked for both types: those it has and up to two others.
    assert float(terms["start"].detach()) == pytest.approx(2 * words * np.log(2) / 64 / 2.1, rel=1e-5)


def test_a_window_without_a_whole_word_has_a_loss():
    # One word of many pieces: windows within it have no first piece of a word, or no last one.
    config = tiny_config(window=3, overlap=1)
    learner = tiny_learner(config, World(["x" * 40], [[]]))
    shown = learner.windows(0)
    assert any(not each.starts.any() for each in shown) and any(not each.ends.any() for each in shown)
    for terms, _ in learner.losses([0], 0):
        assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    ("settings", "tried"),
    [
        ({}, ["flat", "nested"]),
        ({"nested": True}, ["nested"]),
        ({"nested": False}, ["flat"]),
        ({"flat_across_types": True}, ["flat"]),
        ({"flat_across_types": False}, ["flat within each type", "nested"]),
        ({"nested": False, "flat_across_types": False}, ["flat within each type"]),
        ({"mode": "tagger"}, ["flat"]),
        ({"mode": "tagger", "flat_across_types": False}, ["flat within each type"]),
    ],
)
def test_what_valid_decides_where_mentions_of_train_overlap(settings, tried):
    decodings = ModelConfig(**settings).decodings(nested=True, longest=7)
    assert [each.overlaps for each in decodings] == tried and {each.longest for each in decodings} == {7}


def test_nesting_is_tried_only_where_mentions_of_train_overlap_or_a_setting_says_so():
    assert [each.overlaps for each in ModelConfig().decodings(nested=False)] == ["flat"]
    assert [each.overlaps for each in ModelConfig(nested=True).decodings(nested=False)] == ["nested"]


def test_the_tagger_learns_in_the_same_loop(tmp_path):
    learner = tiny_learner(tiny_config(mode="tagger"), World.make(80))
    curve = taught(learner, tmp_path, epochs=6)
    assert curve[-1]["loss_tags"] < 0.3 * curve[0]["loss_tags"]
    assert curve[-1]["valid_f1"] > 0.6


def test_precision_recall_and_f1():
    assert exact_figures({1, 2, 3, 4}, {3, 4, 5}) == pytest.approx((2 / 3, 0.5, 4 / 7))
    assert exact_figures(set(), set()) == (0.0, 0.0, 0.0)


def test_a_window_is_asked_for_its_types_and_twice_as_many_others():
    rng = np.random.default_rng(0)
    types = sample_types([3, 3], range(10), 2, rng)
    assert len(types) == 3 and 3 in types
    assert len(sample_types([], range(10), 2, rng)) == 2
    assert sample_types([0, 1], range(3), 2, rng) == [0, 1, 2]
