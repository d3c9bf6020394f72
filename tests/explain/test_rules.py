import pytest
import torch
from torch import nn

from engine.encoders import load_encoder
from engine.explain.explain import explain
from engine.explain.rules import constant_attention, register_attention, relevance_rules
from engine.explain.settings import Settings
from tests.explain.toys import Transformer, docs

BATCH, TARGETS = docs([5, 6, 7, 8], range(20, 33)), torch.tensor([0, 1])


@pytest.fixture(scope="module")
def unbiased():
    """The tiny encoder without biases, positions and segments: nothing but the words can take relevance."""
    encoder = load_encoder("tiny:bert", torch.float32, "eager")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, value in encoder.named_parameters():
            if name.endswith("bias") or "position" in name or "token_type" in name:
                value.zero_()
            elif "LayerNorm" in name:
                value.uniform_(0.5, 1.5)
            elif "word" not in name:
                value.mul_(10)
    return Transformer(encoder)


def test_relevance_is_conserved(unbiased):
    for found in explain(unbiased, BATCH, TARGETS, "attnlrp"):
        assert found.score.sum() == pytest.approx(found.target_score, rel=1e-4)
        assert abs(found.target_score) > 0.1


def test_the_plain_gradient_does_not_conserve(unbiased):
    for found in explain(unbiased, BATCH, TARGETS, "gradient_x_input", Settings(baseline="zero")):
        assert abs(found.score.sum() - found.target_score) > 0.1 * abs(found.target_score)


def test_rules_change_gradients_and_no_value(transformer):
    plain = transformer.score(BATCH, TARGETS)
    with transformer.relevance_rules():
        assert torch.equal(transformer.score(BATCH, TARGETS), plain)


def test_rules_end_with_their_context_even_by_an_error(transformer):
    def slope():
        embeds = transformer.embed(BATCH).requires_grad_()
        return torch.autograd.grad(transformer.score(BATCH, TARGETS, embeds=embeds).sum(), embeds)[0]

    before = slope()
    with pytest.raises(ZeroDivisionError), transformer.relevance_rules():
        assert not torch.allclose(slope(), before)
        raise ZeroDivisionError
    assert torch.equal(slope(), before)
    assert transformer.encoder.config._attn_implementation == "eager"


def test_an_activation_passes_relevance_on_unchanged():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.GELU()
            self.config = type("Config", (), {"_attn_implementation": "eager"})()

    encoder = Encoder()
    x = torch.tensor([-2.0, 0.0, 1.5], requires_grad=True)
    with relevance_rules(encoder):
        y = encoder.act(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(y, nn.functional.gelu(x))
    assert torch.allclose(x * slope, y)
    assert slope[1].item() == pytest.approx(0.5, abs=1e-4)


def test_the_gradient_flows_through_the_values_alone():
    query, key, value = (torch.randn(1, 1, 3, 4, requires_grad=True) for _ in range(3))
    out, weights = constant_attention(None, query, key, value, None)
    out.sum().backward()
    assert query.grad is None and key.grad is None
    assert torch.allclose(value.grad, weights.sum(-2, keepdim=True).transpose(2, 3).expand_as(value))


def test_the_forward_pass_is_plain_attention():
    ids = torch.randint(1000, 2000, (2, 9))
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    plain = load_encoder("tiny:bert", torch.float32, "eager")(ids, attention_mask=mask).last_hidden_state
    held = load_encoder("tiny:bert", torch.float32, register_attention())(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(plain[mask.bool()], held[mask.bool()], atol=1e-6)
