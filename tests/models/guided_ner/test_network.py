"""The network: words are tagged at their first tokens, and neither padding nor other windows change a window's logits."""

import numpy as np
import torch

from engine.models.entities.spans import collate, windows
from engine.models.guided_ner.config import BILSTM_CRF
from engine.models.guided_ner.network import Words
from tests.models.guided_ner.conftest import TOKENIZER, scattered, tiny_config, window_of

LONG, SHORT = "患者左侧上肢伴红斑，予软膏。", "面部丘疹"


def pieces(word, size=8, overlap=2):
    """The windows of a text whose tokens belong to these words."""
    word = np.array(word, np.int32)
    return windows(0, np.arange(10, 10 + len(word), dtype=np.int32), word, size, overlap)


def test_logits_do_not_depend_on_what_stands_beside_a_window(network):
    shown = [*window_of(LONG), *window_of(SHORT, number=1)]
    with torch.no_grad():
        both = network(collate(shown, network.config.special))
        for row, window in enumerate(shown):
            alone = network(collate([window], network.config.special))
            assert torch.allclose(both[row, : len(window) + 2], alone[0], atol=1e-5)
    assert not torch.allclose(both[0, 1], both[0, 2], atol=1e-2)


def test_other_embeddings_are_read_in_place_of_the_tokens_own(network):
    batch = collate(window_of(SHORT), network.config.special)
    other = collate(window_of(LONG[:4]), network.config.special)
    with torch.no_grad():
        assert torch.allclose(network(batch, network.embed(other.ids)), network(other))
        assert not torch.allclose(network(batch), network(other), atol=1e-2)


def test_attention_is_that_of_the_last_layer(network):
    batch = collate(window_of(SHORT), network.config.special)
    with torch.no_grad():
        states, attention = network.states(batch, attention=True)
        assert attention.shape == (1, 2, 6, 6) and torch.allclose(attention.sum(-1), torch.ones(1, 2, 6))
        assert torch.allclose(states, network.states(batch)[0]) and network.states(batch)[1] is None


def test_a_bilstm_is_there_only_by_that_head():
    for head in ("softmax", "crf"):
        assert scattered(tiny_config(head)).lstm is None
    network = scattered(tiny_config(BILSTM_CRF))
    assert network.tags.in_features == 12 and network.crf is not None


def test_words_begin_at_their_first_tokens_and_hold_the_later_ones():
    first, second = pieces([0, 0, 1, 2, 2, 2])[0], pieces([0, 1])[0]
    words = Words([first, second], "cpu")
    assert words.at.tolist() == [[0, 2, 3], [0, 1, 0]] and words.mask.tolist() == [[True] * 3, [True, True, False]]
    values = torch.arange(12.0).view(2, 6, 1)
    assert words.of(values)[0, :, 0].tolist() == [0, 2, 3] and words.of(values)[1, :2, 0].tolist() == [6, 7]
    rows, tokens = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 1, 2, 5, 1])
    assert words.number(rows, tokens).tolist() == [0, 0, 1, 2, 1]


def test_a_window_within_one_long_word_has_no_word():
    inner = pieces([0] * 20)[1]
    assert not inner.starts.any() and not Words([inner], "cpu").mask.any()


def test_no_character_of_the_toy_texts_is_unknown():
    assert TOKENIZER.token_to_id("[UNK]") not in TOKENIZER.encode(LONG + SHORT).ids
