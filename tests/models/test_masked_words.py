"""Learning by masked words: what is hidden, and that a piece's loss does not depend on what stands beside it."""

import numpy as np
import pytest
import torch

from engine.models.characters import character_tokenizer, new_encoder, small_encoder
from engine.models.masked_words import MaskedWords
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train

CYCLE = "甲乙丙丁戊己庚辛"
TOKENIZER = character_tokenizer([CYCLE] * 2)
SPECIAL = (2, 3, 0, 4)


def piece(length, start=0):
    text = (CYCLE * (length // 8 + 2))[start % 8 :][:length]
    return np.array(TOKENIZER.encode(text).ids, np.int32)


PIECES = [piece(8), piece(1), piece(40, 3), piece(27, 5), piece(20, 1)]


def learner(pieces=PIECES, held=0, seed=7):
    values = {**small_encoder(TOKENIZER, 64), "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32}
    torch.manual_seed(0)
    names = [f"piece {number}" for number in range(len(pieces))]
    return MaskedWords(new_encoder(values), SPECIAL, pieces, names, seed=seed, device=torch.device("cpu"), held=held)


def test_some_pieces_are_held_back_and_the_order_is_one_of_the_others():
    assert learner().train == [0, 1, 2, 3, 4] and not learner().valid and learner().validate() == {}
    made = learner(held=2)
    assert made.train == [1, 3] and made.valid == [0, 2, 4]
    assert sorted(made.order(0)) == [1, 3] and {tuple(made.order(epoch)) for epoch in range(9)} == {(1, 3), (3, 1)}


def test_a_seventh_of_the_tokens_is_asked_for_and_at_least_one():
    _, counts, tokens = learner()._losses([0, 1, 2], 0)
    # 15 % of 8, 1 and 40; two special tokens each.
    assert counts.tolist() == [1, 1, 6] and tokens == 8 + 1 + 40 + 6


def test_a_pieces_loss_is_the_same_in_any_group_and_another_in_another_epoch():
    made = learner()
    with torch.no_grad():
        together = made._losses([1, 0, 2], 3)[0]
        alone = torch.cat([made._losses([number], 3)[0] for number in (1, 0, 2)])
        assert torch.allclose(together, alone, atol=1e-4)
        assert not torch.allclose(together, made._losses([1, 0, 2], 4)[0])
    # A step sums the means of its pieces.
    (terms, _), *none = made.losses([0, 2], 3)
    expected = sum((made._losses([number], 3)[0] / made._losses([number], 3)[1]).sum() for number in (0, 2))
    assert terms["words"].item() == pytest.approx(expected.item(), abs=1e-4) and not none


def test_special_tokens_are_never_asked_for(monkeypatch):
    made, asked = learner(), []
    head = made.head.forward
    monkeypatch.setattr(made.head, "forward", lambda states, table: asked.append(len(states)) or head(states, table))
    made._losses([1], 0)
    assert asked == [1]
    shown = []
    monkeypatch.setattr(made.encoder, "forward", lambda input_ids, attention_mask: shown.append(input_ids) or stop())
    for epoch in range(20):
        with pytest.raises(StopIteration):
            made._losses([0, 2], epoch)
    for ids in shown:
        assert (ids[:, 0] == 2).all() and ids[0, 9] == 3 and ids[1, 41] == 3 and not ids[0, 10:].any()
    hidden = sum(int((ids == 4).sum()) for ids in shown) / sum((1 + 6) for _ in shown)
    assert 0.6 < hidden < 0.95


def stop():
    raise StopIteration


def test_what_a_text_repeats_is_learned(tmp_path):
    made = learner([np.repeat(piece(1, at), 10 + at % 9) for at in range(64)], held=9)
    before = made.validate()["loss"]
    loop = LoopConfig(epochs=15, batch=8, rate=5e-3, report_every=1000, checkpoint_every=10**6)
    train(made, loop, Worker(), tmp_path)
    assert before > 1.5 and made.validate()["loss"] < 0.5 * before
    assert set(made.parameters()) > {"words.bias", "encoder.embeddings.word_embeddings.weight"}
