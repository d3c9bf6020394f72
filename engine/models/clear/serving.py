"""The network that serves: image encoder, projection, the collapsed bank and a direction a finding. Its cost does not depend on
the number of concepts. From the space on it computes in fp64, as the sums over concepts do that explain it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.models.clear.config import Config
from engine.models.clear.network import Projection, below
from engine.models.clear.space import Space
from engine.vision.encoders import load_image_encoder

_IMAGE, _ENCODER = "dual.image.", "image.encoder."


class Network(nn.Module):
    """See `engine.models.image_system`: `encoder` makes cells and features; the rest turns features into logits."""

    def __init__(self, encoder: nn.Module, width: int, space: Space) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, Projection(encoder.width, width)
        for name in ("matrix", "directions", "intercepts"):
            self.register_buffer(name, torch.from_numpy(getattr(space, name)).double())

    @classmethod
    def of(cls, config: Config, tensors: Mapping[str, Tensor], space: Space, dtype: torch.dtype) -> "Network":
        encoder = load_image_encoder(config.image, dtype)
        if "image" in config.trained:
            encoder.load_state_dict(below(tensors, _ENCODER))
        network = cls(encoder, config.width, space)
        network.projection.load_state_dict(below(tensors, _IMAGE))
        return network.eval().requires_grad_(False)

    def directions_of(self, features: Tensor) -> Tensor:
        """The images v [n, d] in the space that they share with texts, from features [n, width]."""
        return self.projection(features.float())

    def embedding(self, v: Tensor) -> Tensor:
        """z [n, e], of length 1."""
        return functional.normalize(v.double() @ self.matrix, dim=-1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, K] of features [n, width]."""
        return self.embedding(self.directions_of(features)) @ self.directions + self.intercepts
