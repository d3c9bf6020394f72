"""Low-rank adapters: a small trained difference to a frozen encoder, merged into its weights when a model is loaded.

W' = W + B A, with A [rank, in] and B [out, rank] in fp32 (Hu et al. 2021, LoRA, section 4.1; the scale is part of B).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class LowRank(nn.Module):
    """A frozen linear layer plus its trained difference, which starts at zero."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        low = functional.linear(x, self.down.to(x.dtype))
        return self.base(x) + functional.linear(low, self.up.to(x.dtype))


def attach(encoder: nn.Module, rank: int) -> None:
    """Freezes the encoder and adds an adapter to each of its linear layers, in place."""
    encoder.requires_grad_(False)
    for parent in list(encoder.modules()):
        if not isinstance(parent, LowRank):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(parent, name, LowRank(child, rank))


def open_weights(encoder: nn.Module, rank: int) -> None:
    """Prepares an encoder for training, in place: with an adapter of that rank or, with 0, by its own weights."""
    if rank:
        attach(encoder, rank)
    else:
        encoder.requires_grad_(True)


@torch.no_grad()
def merge(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a plain encoder what a training has learned, in place: differences are added to its weights, weights replace its own.

    Raises:
        KeyError: the state names a weight that the encoder lacks.
    """
    weights = encoder.state_dict()
    for key, value in state.items():
        name = key.removesuffix(".down")
        if name != key:
            weight = weights[f"{name}.weight"]
            weight.copy_(weight.float() + state[f"{name}.up"].float() @ value.float())
        elif not key.endswith(".up"):
            weights[key].copy_(value)
