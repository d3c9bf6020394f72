"""What the engine asks of every image encoder: a grid of cells that evidence is laid on, and one vector that is read from it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.errors import ConfigError

if TYPE_CHECKING:
    from transformers import Dinov2Model, ViTModel

    from engine.vision.lite0 import Lite0Model


class ImageEncoder(nn.Module, ABC):
    """An encoder of square images, cut in two at its cells; differentiable throughout.

    Cells come row by row. `preprocessing` names the preprocessing that the encoder was trained with, `cell_width` is the size of
    a cell, `width` that of the pooled vector.
    """

    preprocessing: str
    cell_width: int
    width: int

    @abstractmethod
    def grid(self, side: int) -> tuple[int, int]:
        """Rows and columns of cells of an image of `side` x `side` pixels.

        Raises:
            ConfigError: the encoder takes no images of this side.
        """

    @abstractmethod
    def cells(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, side, side] -> cells [B, rows * columns, cell_width], in the encoder's precision."""

    @abstractmethod
    def pooled(self, cells: Tensor, side: int) -> Tensor:
        """Cells [B, rows * columns, cell_width] of images of `side` pixels -> one vector each [B, width], fp32."""

    def attention(self, pixels: Tensor) -> Tensor | None:
        """Pixels [B, 3, side, side] -> what each head of the last block attends to [B, heads, rows * columns], fp32.

        None for encoders without attention.
        """
        return None

    @torch.no_grad()
    def blank(self, side: int) -> Tensor:
        """Cells [rows * columns, cell_width] of an image that is the preprocessing's mean everywhere: evenly grey."""
        weight = next(self.parameters())
        return self.cells(torch.zeros(1, 3, side, side, dtype=weight.dtype, device=weight.device))[0]

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, side, side] -> one vector each [B, width], fp32."""
        return self.pooled(self.cells(pixels), pixels.shape[-1])


class Lite0Encoder(ImageEncoder):
    """Cells are the maps after the fifth stage; the vector is mean and maximum of the last maps."""

    def __init__(self, model: "Lite0Model", preprocessing: str) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.preprocessing = preprocessing
        self.cell_width = model.evidence_channels
        self.width = 2 * model.config.hidden_size

    def grid(self, side: int) -> tuple[int, int]:
        size = -(-side // self.model.evidence_stride)
        return size, size

    def cells(self, pixels: Tensor) -> Tensor:
        return self.model.evidence_maps(pixels).flatten(2).transpose(1, 2)

    def pooled(self, cells: Tensor, side: int) -> Tensor:
        maps = cells.to(self.model.dtype).transpose(1, 2).unflatten(2, self.grid(side))
        last = self.model.last_maps(maps).float().flatten(2)
        return torch.cat((last.mean(2), last.amax(2)), dim=1)


class TokenEncoder(ImageEncoder):
    """ViT and DINOv2: cells are the patches' embeddings before any position, the vector is the first token of the last layer."""

    def __init__(self, model: "ViTModel | Dinov2Model", preprocessing: str) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.cell_width = self.width = model.config.hidden_size

    def grid(self, side: int) -> tuple[int, int]:
        patch = self.model.embeddings.patch_embeddings.patch_size[0]
        if side % patch:
            raise ConfigError(f"encoder: {side} pixels a side do not divide into patches of {patch}; name another preprocessing")
        return side // patch, side // patch

    def cells(self, pixels: Tensor) -> Tensor:
        self.grid(pixels.shape[-1])
        return self.model.embeddings.patch_embeddings(pixels.to(self.model.dtype))

    def pooled(self, cells: Tensor, side: int) -> Tensor:
        tokens = self._tokens(cells, side)
        for block in self._blocks:
            tokens = block(tokens)
        return self.model.layernorm(tokens[:, 0]).float()

    def attention(self, pixels: Tensor) -> Tensor:
        """The first token's attention to the patches; its attention to itself is left out, so the sum over patches is below 1."""
        tokens = self._tokens(self.cells(pixels), pixels.shape[-1])
        *before, last = self._blocks
        for block in before:
            tokens = block(tokens)
        tokens = (last.norm1 if self.model.config.model_type == "dinov2" else last.layernorm_before)(tokens)
        heads = (last.attention.num_attention_heads, last.attention.head_dim)
        queries = last.attention.q_proj(tokens[:, 0]).unflatten(-1, heads).float()
        keys = last.attention.k_proj(tokens).unflatten(-1, heads).float()
        scores = torch.einsum("bhd,bnhd->bhn", queries, keys) * last.attention.scaling
        return scores.softmax(-1)[:, :, 1:]

    @property
    def _blocks(self) -> nn.ModuleList:
        return self.model.encoder.layer if self.model.config.model_type == "dinov2" else self.model.layers

    def _tokens(self, cells: Tensor, side: int) -> Tensor:
        embeddings = self.model.embeddings
        tokens = torch.cat((embeddings.cls_token.expand(len(cells), -1, -1), cells.to(self.model.dtype)), dim=1)
        return embeddings.dropout(tokens + embeddings.interpolate_pos_encoding(tokens, side, side))
