"""The contrastive loss by numbers worked by hand."""

import math

import pytest
import torch

from engine.models.clear.network import DualEncoder, contrastive_losses

APART = torch.eye(2)
NOTHING_ALIKE = torch.eye(2, dtype=torch.bool)


def _losses(image, text, scale, own, same):
    return contrastive_losses(image, text, torch.tensor(scale), image, text, own, same)


def test_the_loss_of_two_pairs():
    # Own logit 2, the other 0: the loss is log(1 + e^-2) in both directions.
    losses = _losses(APART, APART, 2.0, torch.arange(2), NOTHING_ALIKE)
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-2))] * 2)
    # Swapped texts: own logit 0, the other 2.
    losses = _losses(APART, APART.flip(0), 2.0, torch.arange(2), NOTHING_ALIKE)
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(2))] * 2)


def test_pairs_with_equal_texts_are_no_counterexamples():
    image, text = torch.eye(3), torch.eye(3)[[0, 0, 2]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    losses = _losses(image, text, 1.0, torch.arange(3), same)
    # The first pair has logit 1 and one counterexample with logit 0, in both directions.
    assert float(losses[0]) == pytest.approx(math.log1p(math.exp(-1)))
    # The image of the second agrees with no text: logits 0 and 0 in both directions.
    assert float(losses[1]) == pytest.approx(math.log(2))


def test_a_worker_sees_the_pairs_of_all():
    every = torch.eye(4)
    same = torch.zeros(2, 4, dtype=torch.bool)
    own = torch.tensor([2, 3])
    losses = contrastive_losses(every[2:], every[2:], torch.tensor(1.0), every, every, own, same)
    assert losses.tolist() == pytest.approx([math.log(1 + 3 * math.exp(-1))] * 2)


def test_directions_have_length_one_and_the_scale_a_limit():
    dual = DualEncoder(5, 7, 3)
    assert dual.image(torch.randn(4, 5)).norm(dim=-1).tolist() == pytest.approx([1.0] * 4)
    assert float(dual.scale) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        dual.logit_scale.fill_(9.0)
    assert float(dual.scale) == pytest.approx(100.0)
