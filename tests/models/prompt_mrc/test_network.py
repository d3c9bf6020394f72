"""The network: its match head, what a text's states depend on, and separately encoded parts."""

import pytest
import torch

from engine.encoders import encoder_folder, load_encoder, load_tokenizer
from engine.errors import ConfigError
from engine.models.entities.spans import windows
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.network import MatchHead, collate, new_network
from engine.models.prompt_mrc.templates import complete_config
from engine.text.tokens import tokenize
from tests.models.prompt_mrc.conftest import tiny_config

TEXTS = ["the old man sells bread", "a red apple", "hill green pear tree near the river today"]


def windows_of(texts=TEXTS):
    tokens = tokenize(load_tokenizer(encoder_folder("tiny:bert")), texts, 512)
    return [window for i, t in enumerate(tokens) for window in windows(i, t.ids, t.word_of_token, 48, 16)]


def network(**changes):
    return new_network(tiny_config(**changes), torch.float32, "eager").eval()


def test_the_factorised_match_head_is_the_plain_one():
    torch.manual_seed(1)
    head, states = MatchHead(8, 16), torch.randn(2, 5, 8)
    row, first, last = torch.tensor([(n, i, j) for n in range(2) for i in range(5) for j in range(i, 5)]).unbind(-1)
    plain = torch.nn.Linear(16, 16)
    plain.weight.data = torch.cat([head.first.weight, head.second.weight], 1)
    plain.bias.data = head.first.bias
    whole = torch.cat([states[:, :, None].expand(2, 5, 5, 8), states[:, None].expand(2, 5, 5, 8)], -1)
    naive = head.out(torch.nn.functional.gelu(plain(whole))).squeeze(-1)[row, first, last]
    torch.testing.assert_close(head(states, row, first, last), naive, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"share_layers": 1}, {"mode": "tagger"}, {"mode": "soft"}, {"mode": "name"}, {"deep": True}]
    + [{"deep": True, "share_layers": share} for share in (1, 2)],
)
@torch.no_grad()
def test_a_window_alone_is_a_window_in_a_padded_batch(changes):
    model, shown = network(**changes), windows_of()
    types = [0] if model.config.is_tagger else [0, 1]
    together = model(collate(shown, model.config.special), types)
    for number, window in enumerate(shown):
        for place, kind in enumerate(types):
            alone = model(collate([window], model.config.special), [kind]).states[0, : len(window)]
            row = number * len(types) + place
            torch.testing.assert_close(together.states[row, : len(window)], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_whole_sequence_is_what_the_encoder_makes_of_it():
    model = network(mode="hard", prompt_room=32)
    (window,) = windows_of(TEXTS[:1])
    words = model.queries[1]
    ids = torch.tensor([[101, *words, 102, *window.ids.tolist(), 102]])
    head = len(words) + 2
    places = torch.tensor([[*range(head), *range(32, 32 + len(window) + 1)]])
    kinds = (torch.arange(ids.shape[1]) >= head).long().unsqueeze(0)
    plain = load_encoder("tiny:bert", torch.float32, "eager")
    expected = plain(ids, token_type_ids=kinds, position_ids=places).last_hidden_state[:, head:]
    states = model(collate([window], model.config.special), [1]).states
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_separate_layers_encode_a_text_alike_under_every_prompt_and_the_others_do_not():
    model = network(share_layers=2)
    logits = model(collate(windows_of(TEXTS[:1]), model.config.special), [0, 1])
    torch.testing.assert_close(logits.states[0], logits.states[1], rtol=0, atol=1e-6)
    other = network(share_layers=1)(collate(windows_of(TEXTS[:1]), model.config.special), [0, 1])
    assert not torch.allclose(other.states[0], other.states[1], atol=1e-4)


def test_the_heads_start_at_the_prior():
    assert torch.sigmoid(network().start.bias).item() == pytest.approx(0.02)
    share = network(mode="tagger").tagger.bias.view(2, 3).exp()
    assert (share[:, 1] / share[:, 0]).tolist() == pytest.approx([1 / 49, 1 / 49])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "hybrid"}, "'B' of 20 word pieces and 15 soft vectors takes 37 positions, there are 20; .* in model.questions"),
        ({"mode": "hard"}, "'B' of 20 word pieces and 0 soft vectors takes 22 positions, there are 20; .* in model.questions"),
        ({"mode": "soft", "type_soft": 9}, "'A' of 0 word pieces and 19 soft vectors takes 21 positions, .* model.type_soft"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_by_type_and_setting(changes, message):
    config = MrcConfig(types=("A", "B"), encoder="tiny:bert", prompt_room=20, window=48, overlap=8, **changes)
    with pytest.raises(ConfigError, match=f"^model.prompt_room: the prompt for {message}"):
        new_network(complete_config(config, {"A": "fruit", "B": "fruit " * 20}), torch.float32, "eager")


def test_a_replaced_question_must_fit_too():
    with pytest.raises(ConfigError, match="the prompt for 'B' of 40 word pieces"):
        network(prompt_room=32).set_query(1, [1] * 40)
    with pytest.raises(ConfigError, match="the prompt for a new type of 40 word pieces"):
        network(prompt_room=32).set_query(2, [1] * 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 3}, "has 2 layers"),
        ({"share_layers": 3}, "has 2 layers"),
        ({"window": 500}, "takes 533 positions"),
        ({"types": ("A", "Z")}, "no question for the type 'Z'"),
        ({"types": ("Disease",), "language": "fi"}, "no questions in 'fi'"),
        ({"types": ("Disease",), "version": 9}, "has no version 9"),
        ({"mode": "deep"}, "none of tagger, name"),
        ({"overlap": 48}, "smaller than model.window"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        network(**changes)


def test_depth_keeps_the_lower_layers():
    assert len(network(depth=1).encoder.encoder.layer) == 1
