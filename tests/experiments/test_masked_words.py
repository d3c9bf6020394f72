"""Masked words: what is hidden, and that a text's loss does not depend on what stands beside it."""

import json

import pytest
import torch

from engine.encoders import encoder_digest
from engine.errors import ConfigError
from engine.experiments.masked_words import AdaptConfig, MaskedWords, adapt

TEXTS = ["the old man sells bread near the river", "plum", "we saw an apple and a cherry on a hill " * 8]
TINY = AdaptConfig("tiny:bert", window=30, epochs=1, batch=2, held=4)


def test_pieces_and_what_is_asked_for():
    learner = MaskedWords(TINY, TEXTS)
    assert [len(piece) for piece in learner.pieces] == [8, 1, 27, 27, 26]
    assert learner.valid == [0, 4] and learner.train == [1, 2, 3]
    _, counts, tokens = learner._losses([0, 1, 2], 0)
    # 15 % of 8, 1 and 27 tokens, at least one; two special tokens each.
    assert counts.tolist() == [1, 1, 4] and tokens == 8 + 1 + 27 + 6


def test_a_loss_is_the_same_alone_and_beside_a_longer_text():
    learner = MaskedWords(TINY, TEXTS)
    alone, _, _ = learner._losses([0], 0)
    beside, _, _ = learner._losses([0, 2], 0)
    assert torch.allclose(alone[0], beside[0], atol=1e-5)
    other, _, _ = learner._losses([0], 1)
    assert not torch.allclose(alone[0], other[0])


def test_the_adapted_encoder_is_written_once(tmp_path):
    said = []
    figures = adapt(TINY, TEXTS, tmp_path / "encoder", tmp_path / "work", said.append)
    assert set(figures) == {"loss_of_new_head", "loss_after", "pieces"} and said
    digest = encoder_digest(f"path:{tmp_path / 'encoder'}")
    said.clear()
    assert adapt(TINY, TEXTS, tmp_path / "encoder", tmp_path / "work", said.append) == figures and not said
    assert encoder_digest(f"path:{tmp_path / 'encoder'}") == digest
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["model_type"] == "bert"
    with pytest.raises(ConfigError, match="too few texts"):
        MaskedWords(TINY, ["plum"])
