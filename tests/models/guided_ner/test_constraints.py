"""The constraints by hand, and that each has a gradient of a gradient under every head."""

import numpy as np
import pytest
import torch

from engine.models.entities.spans import collate
from engine.models.guided_ner import constraints
from engine.models.guided_ner.network import Words, log_odds
from tests.models.guided_ner.conftest import window_of


def logs(*rows):
    return torch.tensor([list(rows)], dtype=torch.double).log()


def test_divergence_by_hand():
    one, other = logs([0.5, 0.5], [0.9, 0.1]), logs([1.0, 1e-12], [0.9, 0.1])
    # JSD([.5 .5], [1 0]) with the mean [.75 .25].
    by_hand = 0.5 * (0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) + 0.5 * np.log(1 / 0.75)
    both = torch.tensor([[1.0, 1.0]])
    assert constraints.divergence(one, other, both).item() == pytest.approx(by_hand, abs=1e-6)
    assert constraints.divergence(one, other, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(0, abs=1e-9)
    assert constraints.divergence(one, other, 0.5 * both).item() == pytest.approx(by_hand / 2, abs=1e-6)


def test_divergence_lies_between_nothing_and_the_logarithm_of_two():
    torch.manual_seed(0)
    logits, each = torch.randn(2, 3, 5), torch.ones(2, 3)
    assert constraints.divergence(logits, logits + 7.0, each).item() == pytest.approx(0, abs=1e-5)
    one, other = torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)
    one[..., 0], other[..., 1] = 80.0, 80.0
    assert constraints.divergence(one, other, torch.ones(1, 1)).item() == pytest.approx(np.log(2), abs=1e-5)
    assert 0 < constraints.divergence(logits, torch.randn(2, 3, 5), each).item() < 6 * np.log(2)


def test_disagreement_by_hand_and_with_a_gradient_to_the_saliency_alone():
    target = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)
    saliency = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]], requires_grad=True)
    found = constraints.disagreement(target, saliency, torch.tensor([1.0, 1.0]))
    assert found.item() == pytest.approx(0.5 * np.log(2), abs=1e-6)
    assert constraints.disagreement(target, saliency, torch.tensor([0.5, 3.0])).item() == pytest.approx(
        0.25 * np.log(2), abs=1e-6
    )
    found.backward()
    assert target.grad is None and saliency.grad[0].any()
    assert constraints.disagreement(target, torch.zeros(2, 3), torch.ones(2)).isfinite()


def test_words_at_edges_count_more_up_to_four_times():
    target = torch.tensor([[0.1, 0.9, 0.0, 0.0], [0.25, 0.25, 0.0, 0.0]])
    edge, mask = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    found = constraints.edge_weights(edge, target, mask)
    # 4 and 3 words: 1 + 0.4, 1 + min(3.6, 3), 1; 1 + 0.75.
    assert torch.allclose(found, torch.tensor([[1.4, 4.0, 1.0, 0.0], [1.75, 0.0, 1.0, 0.0]]))


def test_edge_loss_by_hand():
    starts, ends = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    found = constraints.edge_loss(torch.zeros(1, 2, 2), starts, ends, torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(2 * np.log(2))
    sure = torch.tensor([[[30.0, -30.0], [-30.0, 30.0]]])
    assert constraints.edge_loss(sure, starts, ends, torch.ones(1, 2)).item() == pytest.approx(0, abs=1e-6)


def test_a_span_must_lie_one_above_its_best_neighbour():
    own = torch.tensor([3.0, 2.0, 0.0])
    shifted = torch.tensor([[1.0, 2.5], [-4.0, 0.5], [-1.0, float("-inf")]])
    factor = torch.tensor([1.0, 1.0, 2.0])
    # Too little by 0.5, none, none.
    assert constraints.shift_loss(own, shifted, factor).item() == pytest.approx(0.5)
    assert constraints.shift_loss(own - 1, shifted, factor).item() == pytest.approx(1.5 + 0.5 + 2 * 1.0)


def test_a_span_that_nothing_can_be_shifted_of_costs_nothing():
    own = torch.tensor([-2.0], requires_grad=True)
    found = constraints.shift_loss(own, torch.full((1, 4), float("-inf")), torch.ones(1))
    found.backward()
    assert found.item() == 0 and own.grad.item() == 0


def test_entropy_is_largest_where_nothing_is_said():
    found = constraints.entropy(torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]))
    assert found.tolist() == pytest.approx([np.log(4), 0, np.log(2)], abs=1e-6)


def test_saliency_of_a_linear_score_by_hand():
    embeds = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [5.0, 5.0]]], requires_grad=True)
    slope = torch.tensor([[2.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, 1.0]])
    mask, word = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[0, 1, 1, 0]])
    # |2|, |-2| + |4|; the last token is none of the text.
    found = constraints.gradient_saliency((embeds * slope).sum((1, 2)), embeds, mask, word, 3)
    assert found[0].tolist() == pytest.approx([2 / 8, 6 / 8, 0], abs=1e-6)


def test_saliency_by_attention_is_what_the_entity_gives():
    attention = torch.tensor([[[[0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]] * 2])
    within, mask, word = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[0, 1, 1]])
    found = constraints.attention_saliency(attention, within, mask, word, 2)
    assert found[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def terms(network, kind):
    """Each constraint on a window with the entity 红斑, by its name."""
    shown, other = window_of("患者伴红斑，予软膏"), window_of("患者左红斑，予软膏")
    batch, changed = (collate(each, network.config.special) for each in (shown, other))
    words, both = Words(shown, "cpu"), []
    for each in (batch, changed):
        embeds = network.embed(each.ids)
        states, attention = network.states(each, embeds, attention=True)
        first, last = torch.tensor([3, 3, 3]), torch.tensor([4, 5, 3])
        scores = log_odds(
            network.spans(network.tags(states)[:, 1:], words, torch.zeros(3).long(), first, last, torch.ones(3).long())
        )
        number = torch.zeros_like(each.ids)
        number[0, 1:10] = torch.arange(9)
        if kind == "gradient":
            saliency = constraints.gradient_saliency(scores[:1], embeds, each.text.float(), number, 9)
        else:
            within = ((each.position >= 3) & (each.position <= 4)).float() * each.text
            saliency = constraints.attention_saliency(attention, within, each.text.float(), number, 9)
        both.append((words.of(network.tags(states)[:, 1:]), saliency, scores, words.of(states[:, 1:])))
    (tags, saliency, scores, states), (other_tags, other_saliency, *_) = both
    target, starts = torch.full((1, 9), 1 / 9), torch.arange(9).unsqueeze(0) == 3
    one = torch.ones(1)
    return {
        "divergence": constraints.divergence(tags, other_tags, torch.ones(1, 9)),
        "steady saliency": ((saliency - other_saliency) ** 2).sum(),
        "edges": constraints.edge_loss(network.edges(states), starts, starts.roll(1), torch.ones(1, 9)),
        "shift": constraints.shift_loss(scores[:1] - 50, scores[None, 1:], one),
        "consistency": constraints.disagreement(target, saliency, one),
    }


@pytest.mark.parametrize("kind", ["gradient", "attention"])
def test_every_constraint_has_a_finite_gradient_that_is_not_zero(network, kind):
    for name in ("divergence", "steady saliency", "edges", "shift", "consistency"):
        network.zero_grad()
        loss = terms(network, kind)[name]
        assert loss.item() > 0, name
        loss.backward()
        slopes = {at: value.grad for at, value in network.named_parameters() if value.grad is not None}
        assert all(slope.isfinite().all() for slope in slopes.values()), name
        layer = next(slope for at, slope in slopes.items() if "layer.0" in at and "query.weight" in at)
        assert layer.abs().sum() > 0, name
        assert "glob" not in slopes
    network.zero_grad(set_to_none=True)


def test_a_saliency_can_be_taught(network):
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = terms(network, "gradient")["consistency"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(before[name])
    network.zero_grad(set_to_none=True)
