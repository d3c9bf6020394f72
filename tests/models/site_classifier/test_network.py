import numpy as np
import torch

from engine.encoders import load_encoder
from engine.models.site_classifier.heads import AttentionPool
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import collate
from tests.models.conftest import tiny_config, windows

IDS = [np.arange(1000, 1005), np.arange(1000, 1070), np.arange(1500, 1524)]
SPECIAL = (101, 102, 0, 103)


def new_network():
    torch.manual_seed(5)
    return SiteNetwork(tiny_config(), load_encoder("tiny:bert", torch.float32, "eager")).eval()


def new_batch(*members):
    return collate(list(members), [IDS[m] for m in members], window=24, special=SPECIAL)


def test_pooling_by_hand():
    pool = AttentionPool(2, 1, 1)
    with torch.no_grad():
        pool.key.weight.copy_(torch.tensor([[1.0, 0.0]]))
        pool.key.bias.zero_()
        pool.query.weight.fill_(float(np.log(3) / np.tanh(1)))
    states = torch.tensor([[[1.0, 4.0], [0.0, 8.0]], [[0.0, 0.0], [9.0, 9.0]]])
    attended = pool(states, windows(torch.tensor([[True, True], [True, False]]), [0, 0]))
    assert torch.allclose(attended.weights.flatten(), torch.tensor([3 / 5, 1 / 5, 1 / 5, 0.0]))
    assert torch.allclose(attended.context, torch.tensor([[3 / 5, 12 / 5 + 8 / 5]]))


def test_windows_know_their_tokens():
    batch = new_batch(1)
    assert batch.ids.shape == (3, 26)
    assert batch.position[batch.text].tolist() == list(range(70))
    assert batch.ids[:, 0].tolist() == [101] * 3
    assert batch.mask.sum(1).tolist() == [26, 25, 25]


def test_paired_text_stands_in_front_of_every_window_and_is_no_evidence():
    batch = collate([0], [IDS[1]], window=24, special=SPECIAL, pairs=[np.array([7, 8])])
    assert batch.ids[:, :4].tolist() == [[101, 7, 8, 102]] * len(batch.ids)
    assert batch.position[batch.text].tolist() == list(range(70))
    assert batch.types[0, :4].tolist() == [0] * 4 and batch.types[0, 4] == 1
    assert batch.ids.shape[1] <= 24 + 2


def test_weights_sum_to_one_over_a_record_and_padding_has_none():
    batch = new_batch(0, 1, 2)
    pooled = new_network()(batch)
    for weights in (attended.weights for attended in pooled.attended.values()):
        assert torch.all(weights[~batch.text] == 0)
        total = torch.zeros(3, 2).index_add(0, batch.record, weights.sum(1))
        assert torch.allclose(total, torch.ones(3, 2), atol=1e-6)


def test_a_record_alone_is_the_record_among_others():
    model = new_network()
    together = model(new_batch(0, 1, 2)).logits
    for place, member in enumerate((0, 1, 2)):
        alone = model(new_batch(member)).logits
        for name in alone:
            assert torch.allclose(alone[name][0], together[name][place], atol=1e-5)


def test_chunks_change_neither_answer_nor_gradient():
    model, batch = new_network(), new_batch(0, 1, 2)
    slopes = []
    for chunk in (0, 2):
        embeds = model.embed(batch.ids).detach().requires_grad_()
        model(batch, embeds, chunk).logits["site"].sum().backward()
        slopes.append(embeds.grad)
    assert torch.allclose(*slopes, atol=1e-6)
