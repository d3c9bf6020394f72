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


@torch.no_grad()
def merge(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Adds the differences to a plain encoder's weights, in place.

    Raises:
        KeyError: the state names a layer that the encoder lacks.
    """
    layers = dict(encoder.named_modules())
    for key in state:
        if key.endswith(".down"):
            name = key.removesuffix(".down")
            weight = layers[name].weight
            difference = state[f"{name}.up"].float() @ state[key].float()
            weight.copy_(weight.float() + difference)
