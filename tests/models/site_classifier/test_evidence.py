import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.explain.codes import log_odds
from engine.models.site_classifier.config import EVIDENCE_METHODS
from engine.models.site_classifier.evidence import METHODS, NEEDS_BACKWARD
from engine.models.site_classifier.explaining import mask_tokens, per_record, record_of
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import collate
from tests.models.conftest import tiny_config

SPECIAL = (101, 102, 0, 103)
IDS = [np.arange(1000, 1009), np.arange(1000, 1050)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    return SiteNetwork(tiny_config(), load_encoder("tiny:bert", torch.float32, "eager")).eval()


def scores(model, method, batch, chunk=0):
    embeds = model.embed(batch.ids).detach().requires_grad_(method in NEEDS_BACKWARD)
    pooled = model(batch, embeds, chunk)
    targets = {name: values.detach().argmax(-1) for name, values in pooled.logits.items()}
    return METHODS[method](model, batch, embeds, pooled, targets), pooled, targets


def both():
    return collate([0, 1], IDS, window=24, special=SPECIAL)


def test_the_names_of_the_options_are_those_of_the_methods():
    assert tuple(METHODS) == EVIDENCE_METHODS


def test_gradient_times_input_agrees_with_finite_differences(model):
    batch = both()
    evidence, _, targets = scores(model, "gradient_x_input", batch)
    embeds = model.embed(batch.ids).detach()
    mask = model.embed(torch.tensor(103)).detach()
    step = 1e-2
    for window, place in ((0, 3), (1, 7)):
        moved = []
        for sign in (1, -1):
            shifted = embeds.clone()
            shifted[window, place] += sign * step * (embeds[window, place] - mask)
            logits = model(batch, shifted).logits["site"]
            moved.append(log_odds(logits, targets["site"]).sum())
        slope = (moved[0] - moved[1]).item() / (2 * step)
        assert evidence["site"][window, place].item() == pytest.approx(slope, rel=2e-2, abs=2e-5)


def test_pooling_scores_add_up_to_the_linear_part(model):
    batch = both()
    evidence, pooled, targets = scores(model, "pooling", batch)
    context = pooled.attended["site"].context.detach().requires_grad_()
    log_odds(model.heads["site"](context), targets["site"]).sum().backward()
    expected = (context.grad * context).sum(-1)
    total = torch.zeros(2).index_add(0, batch.record, evidence["site"].sum(1))
    assert torch.allclose(total, expected, atol=1e-5)


@pytest.mark.parametrize("method", EVIDENCE_METHODS)
def test_every_method_sees_a_record_the_same_alone_and_among_others(model, method):
    batch = both()
    together, _, _ = scores(model, method, batch)
    for index in (0, 1):
        one = record_of(batch, index)
        alone, _, _ = scores(model, method, one, chunk=1)
        for name in alone:
            assert np.allclose(per_record(one, alone[name])[0], per_record(batch, together[name])[index], atol=1e-5)


@pytest.mark.parametrize("method", EVIDENCE_METHODS)
def test_every_method_scores_every_token_and_no_other(model, method):
    batch = both()
    evidence, _, _ = scores(model, method, batch)
    for values in evidence.values():
        assert torch.isfinite(values).all()
        assert [len(v) for v in per_record(batch, values)] == [9, 50]
        assert any(np.abs(v).sum() > 0 for v in per_record(batch, values))


def test_masking_hides_the_flagged_tokens_alone():
    one = record_of(both(), 1)
    hidden = np.zeros(50, dtype=bool)
    hidden[[0, 30]] = True
    masked = mask_tokens(one, hidden, 103)
    assert masked.position[masked.ids == 103].tolist() == [0, 30]
    assert int((masked.ids != one.ids).sum()) == 2
