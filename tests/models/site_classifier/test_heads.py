"""Every head on every encoder: weights, shares, padding; and each pool by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from engine.encoders import load_encoder
from engine.errors import ConfigError
from engine.explain.codes import log_odds
from engine.models.site_classifier.config import HEADS
from engine.models.site_classifier.dpla import DeformablePhrases
from engine.models.site_classifier.evidence import METHODS
from engine.models.site_classifier.heads import FirstToken, TargetAttention
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import collate
from tests.models.conftest import tiny_config, windows

IDS = [np.arange(1000, 1005), np.arange(1000, 1070), np.arange(1500, 1524)]
SPECIAL = (101, 102, 0, 103)
EVERY = [(head, encoder) for encoder in ("tiny:bert", "tiny:longformer") for head in HEADS]


def new_network(head, encoder, **changes):
    torch.manual_seed(5)
    model = SiteNetwork(tiny_config(head=head, encoder=encoder, **changes), load_encoder(encoder, torch.float32, "eager")).eval()
    for pool in model.pools.values():
        for name, value in pool.named_parameters():
            if "offset" in name or "gate" in name:
                nn.init.normal_(value, std=0.5)
    return model


def new_batch(*members, window=24):
    return collate(list(members), [IDS[m] for m in members], window=window, special=SPECIAL)


def texts(*flags):
    return torch.tensor(flags, dtype=torch.bool)


@pytest.mark.parametrize(("head", "encoder"), EVERY)
def test_a_record_alone_is_the_record_among_others_and_behind_padding(head, encoder):
    model = new_network(head, encoder)
    with torch.no_grad():
        together = model(new_batch(0, 1, 2)).logits["site"]
        alone = torch.cat([model(new_batch(member)).logits["site"] for member in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("head", "encoder"), EVERY)
def test_a_query_weighs_text_alone_and_sums_to_one(head, encoder):
    batch = new_batch(0, 1, 2)
    weights = new_network(head, encoder)(batch).attended["site"].weights
    assert torch.all(weights[~batch.text] == 0)
    total = torch.zeros(3, weights.shape[-1]).index_add(0, batch.record, weights.sum(1))
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)
    assert weights.shape[-1] == {"pooling": 2, "cls": 0, "target": 1, "dpla": 2}[head]


@pytest.mark.parametrize(("head", "encoder"), [pair for pair in EVERY if pair[0] != "cls"])
def test_shares_add_up_to_the_linear_part(head, encoder):
    model, batch = new_network(head, encoder), new_batch(0, 1, 2)
    pooled = model(batch)
    targets = {name: values.argmax(-1) for name, values in pooled.logits.items()}
    shares = METHODS["pooling"](model, batch, None, pooled, targets)["site"]
    context = pooled.attended["site"].context.detach().requires_grad_()
    log_odds(model.heads["site"](context), targets["site"]).sum().backward()
    total = torch.zeros(3).index_add(0, batch.record, shares.sum(1))
    assert torch.allclose(total, (context.grad * context).sum(-1), atol=1e-4)
    assert torch.all(shares[~batch.text] == 0)


@pytest.mark.parametrize("encoder", ["tiny:bert", "tiny:longformer"])
def test_a_part_of_the_first_tokens_attention_lies_on_special_tokens(encoder):
    model, batch = new_network("cls", encoder), new_batch(0, 1)
    attention = METHODS["attention"](model, batch, None, model(batch), {})["site"]
    total = torch.zeros(2).index_add(0, batch.record, attention.sum(1))
    assert torch.all(attention[~batch.text] == 0) and torch.all(attention[batch.text] > 0)
    assert torch.all(total > 0.3) and torch.all(total < 0.999)
    alone = METHODS["attention"](model, one := new_batch(0), None, model(one), {})["site"]
    assert torch.allclose(alone[0, :7], attention[0, :7], atol=1e-5)


def test_a_longformer_reads_4096_tokens_at_once_and_from_end_to_end():
    model = new_network("dpla", "tiny:longformer", window=4094)
    tokens = np.random.default_rng(3).integers(1000, 20000, 4094)
    with torch.no_grad():
        states = model.encode(batch := collate([0], [tokens], window=4094, special=SPECIAL))
        other = tokens.copy()
        other[-1] = 1
        far = model.encode(collate([0], [other], window=4094, special=SPECIAL))
    assert batch.ids.shape == (1, 4096)
    # The global token reaches the far end in one layer, and from there everybody in the next.
    assert not torch.equal(states[0, 0], far[0, 0])


def test_first_token_by_hand():
    states = torch.tensor([[[1.0, 2.0], [9.0, 9.0]], [[3.0, 6.0], [9.0, 9.0]], [[5.0, 5.0], [9.0, 9.0]]])
    attended = FirstToken(2)(states, windows(texts([0, 1], [0, 1], [0, 1]), [0, 0, 1]))
    assert attended.context.tolist() == [[2.0, 4.0], [5.0, 5.0]]


def test_target_attention_by_hand():
    pool = TargetAttention(1)
    with torch.no_grad():
        for layer in (pool.key, pool.value):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        pool.query.fill_(float(np.log(3)))
    attended = pool(torch.tensor([[[1.0], [2.0], [-1e9], [7.0]]]), windows(texts([1, 1, 0, 0]), [0]))
    assert torch.allclose(attended.weights.flatten(), torch.tensor([1 / 4, 3 / 4, 0.0, 0.0]))
    assert attended.context.item() == pytest.approx(1 / 4 + 2 * 3 / 4)


def phrases():
    """A pool over states [1] whose phrase i is tanh of the sum of its samples."""
    pool = DeformablePhrases(1, reach=2.0)
    with torch.no_grad():
        pool.phrase.weight.fill_(1.0)
        pool.phrase.bias.zero_()
        pool.phrase_query.zero_()
    return pool


def test_an_untrained_phrase_is_a_plain_window_clipped_to_the_text():
    states = torch.tensor([[[50.0], [0.1], [0.2], [0.3], [50.0]]])
    attended = phrases()(states, windows(texts([0, 1, 1, 1, 0]), [0]))
    phrase = attended.parts[0][0, 1:4, 0]
    assert torch.allclose(phrase, torch.tanh(torch.tensor([0.1 + 0.1 + 0.2, 0.1 + 0.2 + 0.3, 0.2 + 0.3 + 0.3])))
    # A third of each phrase lies on each of its samples: token 1 is met three times, token 2 three times, token 3 three times.
    assert torch.allclose(attended.weights[0, :, 1], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3, 0]))


def test_a_text_with_hidden_tokens_ends_where_its_last_token_stands():
    states = torch.tensor([[[0.1], [0.0], [0.2], [0.3], [50.0]]])
    attended = phrases()(states, windows(texts([1, 0, 1, 1, 0]), [0]))
    phrase = attended.parts[0][0, [0, 2, 3], 0]
    assert torch.allclose(phrase, torch.tanh(torch.tensor([0.1 + 0.1 + 0.0, 0.0 + 0.2 + 0.3, 0.2 + 0.3 + 0.3])))


def test_moved_samples_lie_between_two_tokens_and_share_their_weight():
    pool = phrases()
    with torch.no_grad():
        pool.offset.bias.fill_(float(np.arctanh(0.75)))
    states = torch.tensor([[[0.0], [0.1], [0.3], [0.7]]])
    attended = pool(states, windows(texts([1, 1, 1, 1]), [0]))
    # Each of the samples at i-1, i and i+1 moves by 2 * 0.75 tokens, and none past the last one.
    places = torch.tensor([[0.5, 1.5, 2.5], [1.5, 2.5, 3.0], [2.5, 3.0, 3.0], [3.0, 3.0, 3.0]])
    assert torch.allclose(attended.parts[2][0], places)
    sums = torch.tensor([0.05 + 0.2 + 0.5, 0.2 + 0.5 + 0.7, 0.5 + 0.7 + 0.7, 0.7 + 0.7 + 0.7])
    assert torch.allclose(attended.parts[0].flatten(), torch.tanh(sums), atol=1e-6)
    # Twelve samples of one weight; token 0 has half of one, token 1 of three, token 2 of five, token 3 the rest.
    assert torch.allclose(attended.weights[0, :, 1], torch.tensor([1 / 24, 3 / 24, 5 / 24, 15 / 24]))


def test_places_keep_fp32_under_autocast():
    pool = phrases()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        place, gate = pool._places(torch.randn(1, 5, 1), windows(texts([1] * 5), [0]))
    assert place.dtype == gate.dtype == torch.float32


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match=r"model\.head"):
        tiny_config(head="mean")


def accuracy(reach):
    """Accuracy on 'the class is the token three places after the marker', which a window of three does not reach."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    classes, marker, length = 4, 4, 24

    def draw(count):
        tokens = rng.integers(5, 30, (count, length))
        place = rng.integers(0, length - 4, count)
        labels = rng.integers(0, classes, count)
        # Labels stand all over the text, so that only the place tells which one counts.
        spread = rng.random((count, length)) < 0.15
        tokens[spread] = rng.integers(0, classes, int(spread.sum()))
        tokens[np.arange(count), place], tokens[np.arange(count), place + 3] = marker, labels
        return torch.from_numpy(tokens), torch.from_numpy(labels)

    embedding, pool = nn.Embedding(30, 16), DeformablePhrases(16, reach)
    linear = nn.Linear(pool.width, classes)
    optimiser = torch.optim.Adam([*embedding.parameters(), *pool.parameters(), *linear.parameters()], 1e-2)

    def logits(tokens):
        text = torch.ones(tokens.shape, dtype=torch.bool)
        return linear(pool(embedding(tokens), windows(text, list(range(len(tokens))))).context)

    for _ in range(500):
        tokens, labels = draw(64)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits(tokens), labels).backward()
        optimiser.step()
    with torch.no_grad():
        tokens, labels = draw(1000)
        return (logits(tokens).argmax(-1) == labels).float().mean().item()


def test_learned_places_reach_what_a_fixed_window_does_not():
    assert accuracy(4.0) > 0.95 > accuracy(0.0) + 0.25
