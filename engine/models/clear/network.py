"""The dual encoder: images and texts as directions of one space, trained to agree.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (ICML 2021), section 2.3; for chest
radiographs Tiu et al., CheXzero (Nature Biomedical Engineering 6, 2022).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

# Initial logit scale, and the largest: section 2.5.
_SCALE, _MOST = math.log(1 / 0.07), math.log(100.0)


class Projection(nn.Module):
    """Features [n, features] as directions [n, width] of length 1."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.linear = nn.Linear(features, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(self.linear(self.norm(features)), dim=-1)


class DualEncoder(nn.Module):
    """Projections of the features of both encoders, and how strongly agreement counts."""

    def __init__(self, image_features: int, text_features: int, width: int) -> None:
        super().__init__()
        self.image, self.text = Projection(image_features, width), Projection(text_features, width)
        self.logit_scale = nn.Parameter(torch.tensor(_SCALE))

    @property
    def scale(self) -> Tensor:
        return self.logit_scale.clamp(max=_MOST).exp()


def contrastive_losses(
    image: Tensor, text: Tensor, scale: Tensor, every_image: Tensor, every_text: Tensor, own: Tensor, same: Tensor
) -> Tensor:
    """The symmetric InfoNCE loss [n] of a worker's pairs among all pairs of a step.

    A pair whose text equals that of another pair is no counterexample to it: it is left out of the other's sum. Else notes that
    several images of a case share, and normal reports word for word alike, would be pushed apart.

    Args:
        image, text: [n, width], of the worker's pairs. every_image, every_text: [m, width], of all pairs.
        own: [n], the place of each of the worker's pairs among all. same: [n, m], whether the texts are equal.
    Source:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding (arXiv:1807.03748), equation 4, in both
        directions.
    """
    others = same.clone()
    others[torch.arange(len(own)), own] = False
    logits = (scale * image @ every_text.T, scale * text @ every_image.T)
    return sum(functional.cross_entropy(each.masked_fill(others, -torch.inf), own, reduction="none") for each in logits) / 2


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
