"""Rules of layer-wise relevance propagation as changed gradients of an encoder.

With them, gradient times input is relevance (Achtibat et al. 2024, "AttnLRP", section 3; Ali et al. 2022, "XAI for Transformers",
section 3). A layer norm's deviation is a constant; an activation f passes its relevance on unchanged, as if it were x times the
constant f(x)/x; attention weights are constants. Without biases the relevance of all inputs adds up to the output exactly; a bias
takes its share away. Everything else keeps its plain gradient: gated units, other norms, and an attention that the encoder's
`_attn_implementation` does not choose.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

CONSTANT_ATTENTION = "eager_constant"
_ELEMENTWISE = (nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh)
_TINY = 1e-6


@contextmanager
def relevance_rules(encoder: nn.Module, *heads: nn.Module) -> Iterator[None]:
    """A context that changes the gradients of a transformers encoder and of heads on it; the forward pass stays the same."""
    with ExitStack() as stack:
        for module in chain(encoder.modules(), *(head.modules() for head in heads)):
            if isinstance(module, nn.LayerNorm):
                stack.enter_context(_replaced(module, _layer_norm))
            elif isinstance(module, _ELEMENTWISE) or type(module).__module__ == "transformers.activations":
                stack.enter_context(_replaced(module, _activation))
        stack.callback(setattr, encoder.config, "_attn_implementation", encoder.config._attn_implementation)
        encoder.config._attn_implementation = register_attention()
        yield


def constant_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """An attention function for transformers; query, key, value [batch, heads, tokens, width].

    The forward pass is plain softmax attention. The gradient flows through the values alone, as the weights are constants. This
    is cheaper, since the softmax and the products of queries and keys have no backward, and reported as more faithful.
    """
    with torch.no_grad():
        scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if attention_mask is not None:
            scores = scores + attention_mask
        weights = nn.functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def register_attention() -> str:
    """Registers `constant_attention` with transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(CONSTANT_ATTENTION, constant_attention)
    AttentionMaskInterface.register(CONSTANT_ATTENTION, eager_mask)
    return CONSTANT_ATTENTION


class _Scaled(torch.autograd.Function):
    """A value whose gradient is that of the input times a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, ratio: Tensor) -> Tensor:
        ctx.save_for_backward(ratio)
        return value

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (ratio,) = ctx.saved_tensors
        return slope * ratio, None, None


class _Centred(torch.autograd.Function):
    """A layer norm whose deviation is a constant in the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        out, _, rate = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(rate.to(x.dtype) if weight is None else rate.to(x.dtype) * weight)
        ctx.axes = tuple(range(-len(shape), 0))
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:
        (rate,) = ctx.saved_tensors
        scaled = slope * rate
        return scaled - scaled.mean(ctx.axes, keepdim=True), None, None, None, None


def _layer_norm(module: nn.LayerNorm, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return _Centred.apply(x, tuple(module.normalized_shape), module.weight, module.bias, module.eps)


def _activation(module: nn.Module, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        value = plain(x)
        near = plain(torch.full((1,), _TINY, dtype=x.dtype, device=x.device)) / _TINY
        ratio = torch.where(x.abs() < _TINY, near, value / x)
    return _Scaled.apply(x, value, ratio)


@contextmanager
def _replaced(module: nn.Module, rule: Callable[..., Tensor]) -> Iterator[None]:
    plain = module.forward
    module.forward = lambda x: rule(module, plain, x)
    try:
        yield
    finally:
        del module.forward
