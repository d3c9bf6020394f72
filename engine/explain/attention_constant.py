"""Attention whose weights are constants in the backward pass.

The forward pass is plain softmax attention. The gradient flows through the values alone, the rule of conservative propagation
(Ali et al. 2022, "XAI for Transformers", section 3). This is cheaper, since the softmax and the products of queries and keys have
no backward, and reported as more faithful.
"""

from typing import Any

import torch
from torch import Tensor, nn

NAME = "eager_constant"


def attention_constant(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """An attention function for transformers; query, key, value [batch, heads, tokens, width]."""
    with torch.no_grad():
        scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if attention_mask is not None:
            scores = scores + attention_mask
        weights = nn.functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def register() -> str:
    """Makes the function known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, attention_constant)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME
