import torch

from engine.encoders import load_encoder
from engine.explain.attention_constant import attention_constant, register


def test_the_gradient_flows_through_the_values_alone():
    query, key, value = (torch.randn(1, 1, 3, 4, requires_grad=True) for _ in range(3))
    out, weights = attention_constant(None, query, key, value, None)
    out.sum().backward()
    assert query.grad is None and key.grad is None
    assert torch.allclose(value.grad, weights.sum(-2, keepdim=True).transpose(2, 3).expand_as(value))


def test_the_forward_pass_is_plain_attention():
    ids = torch.randint(1000, 2000, (2, 9))
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    plain = load_encoder("tiny:bert", torch.float32, "eager")(ids, attention_mask=mask).last_hidden_state
    held = load_encoder("tiny:bert", torch.float32, register())(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(plain[mask.bool()], held[mask.bool()], atol=1e-6)
