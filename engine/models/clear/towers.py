"""What stands between an example and the projections: nothing for a frozen encoder, else the encoder that is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.encoders import encoder_folder, load_encoder, load_tokenizer, special_ids
from engine.images.preprocess import preprocessing
from engine.models.embedding import mean_pooled
from engine.vision.encoders import load_image_encoder


class Tower(nn.Module):
    """The outputs of a frozen encoder, as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("here", torch.zeros(0), persistent=False)

    def forward(self, rows: Sequence[np.ndarray]) -> Tensor:
        """Features [n, features] of n examples."""
        return torch.from_numpy(np.stack(rows)).float().to(self.here.device)


class ImageTower(Tower):
    """An image encoder that is trained; an example is the pixels of a square image."""

    def __init__(self, name: str, preprocessed: str) -> None:
        super().__init__()
        self.encoder, self.steps = load_image_encoder(name, torch.float32), preprocessing(preprocessed)
        self.encoder.requires_grad_(True)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ImageTower":
        return cls(settings["model"]["image"], settings["model"]["preprocessing"])

    def forward(self, rows: Sequence[np.ndarray]) -> Tensor:
        side = self.steps.side
        pixels = torch.from_numpy(np.stack(rows).reshape(-1, side, side)).to(self.here.device)
        return self.encoder.pooled(self.encoder.cells(self.steps.normalize(pixels)), side)


class TextTower(Tower):
    """A text encoder that is trained; an example is the ids of its tokens, without special ones."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.encoder = load_encoder(name, torch.float32, "eager").requires_grad_(True)
        self.tokenizer = load_tokenizer(encoder_folder(name))
        self.special = special_ids(self.tokenizer)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "TextTower":
        return cls(settings["model"]["text"])

    def of_texts(self, texts: Sequence[str], tokens: int) -> Tensor:
        """Features of texts, of which the first `tokens` tokens are read."""
        codes = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return self([np.array(code.ids[:tokens], np.int64) for code in codes])

    def forward(self, rows: Sequence[np.ndarray]) -> Tensor:
        begin, end, pad, _ = self.special
        longest = max(map(len, rows)) + 2
        ids = torch.full((len(rows), longest), pad, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row) + 2] = torch.tensor([begin, *row.tolist(), end])
        mask = torch.arange(longest) < torch.tensor([len(row) + 2 for row in rows])[:, None]
        ids, mask = ids.to(self.here.device), mask.long().to(self.here.device)
        return mean_pooled(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
