"""The network: its match head, what a text's states may depend on, and parts encoded alone."""

import pytest
import torch

from engine.encoders import encoder_folder, load_encoder, load_tokenizer
from engine.errors import ConfigError
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.instances import windows
from engine.models.prompt_mrc.network import MatchHead, collate
from engine.text.tokens import tokenize
from tests.models.prompt_mrc.conftest import tiny_config

TEXTS = ["the old man sells bread", "a red apple", "hill green pear tree near the river today"]


def cut(texts=TEXTS):
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
    model, shown = network(**changes), cut()
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
    (window,) = cut(TEXTS[:1])
    words = model.queries[1]
    ids = torch.tensor([[101, *words, 102, *window.ids.tolist(), 102]])
    head = len(words) + 2
    places = torch.tensor([[*range(head), *range(32, 32 + len(window) + 1)]])
    kinds = (torch.arange(ids.shape[1]) >= head).long().unsqueeze(0)
    plain = load_encoder("tiny:bert", torch.float32, "eager")
    expected = plain(ids, token_type_ids=kinds, position_ids=places).last_hidden_state[:, head:]
    found = model(collate([window], model.config.special), [1]).states
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_layers_apart_read_a_text_alike_under_every_prompt_and_the_others_do_not():
    model = network(share_layers=2)
    found = model(collate(cut(TEXTS[:1]), model.config.special), [0, 1])
    torch.testing.assert_close(found.states[0], found.states[1], rtol=0, atol=1e-6)
    other = network(share_layers=1)(collate(cut(TEXTS[:1]), model.config.special), [0, 1])
    assert not torch.allclose(other.states[0], other.states[1], atol=1e-4)


def test_the_heads_start_at_the_prior():
    model = network(prior=0.1)
    assert torch.sigmoid(model.start.bias).item() == pytest.approx(0.1)
    tagger = network(mode="tagger", prior=0.1)
    share = tagger.tagger.bias.view(2, 3).exp()
    assert (share[:, 1] / share[:, 0]).tolist() == pytest.approx([1 / 9, 1 / 9])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mode": "hybrid"}, "'B' of 20 word pieces and 15 soft vectors takes 37 positions, there are 20; .* in model.questions"),
        ({"mode": "hard"}, "'B' of 20 word pieces and 0 soft vectors takes 22 positions, there are 20; .* in model.questions"),
        ({"mode": "soft", "type_soft": 9}, "'A' of 0 word pieces and 19 soft vectors takes 21 positions, .* model.type_soft"),
    ],
)
def test_a_prompt_longer_than_its_room_is_refused_by_type_and_key(changes, told):
    config = MrcConfig(types=("A", "B"), encoder="tiny:bert", prompt_room=20, window=48, overlap=8, **changes)
    with pytest.raises(ConfigError, match=f"^model.prompt_room: the prompt for {told}"):
        new_network(completed(config, {"A": "fruit", "B": "fruit " * 20}), torch.float32, "eager")


def test_a_question_put_in_anew_must_fit_too():
    with pytest.raises(ConfigError, match="the prompt for 'B' of 40 word pieces"):
        network(prompt_room=32).ask_anew(1, [1] * 40)
    with pytest.raises(ConfigError, match="the prompt for a new type of 40 word pieces"):
        network(prompt_room=32).ask_anew(2, [1] * 40)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"depth": 3}, "has 2 layers"),
        ({"share_layers": 3}, "has 2 layers"),
        ({"window": 500}, "takes 533 positions"),
        ({"types": ("A", "Z")}, "no question for the type 'Z'"),
        ({"types": ("Disease",), "language": "fi"}, "no questions in 'fi'"),
        ({"types": ("Disease",), "version": 9}, "has no version 9"),
        ({"mode": "deep"}, "none of tagger, name"),
        ({"overlap": 48}, "smaller than it"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        network(**changes)


def test_depth_keeps_the_lower_layers():
    assert len(network(depth=1).encoder.encoder.layer) == 1
