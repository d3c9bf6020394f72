"""Cells are the mean levels of 8 by 8 blocks; features are the highest cell and the mean of all."""

import torch
from torch import nn


class Encoder(nn.Module):
    width, cell_width, preprocessing = 2, 1, "small-64"

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def grid(self, side):
        return side // 8, side // 8

    def cells(self, pixels):
        return self.gain * nn.functional.avg_pool2d(pixels[:, :1], 8).flatten(2).transpose(1, 2)

    def pooled(self, cells, side):
        return torch.cat([cells.amax(1), cells.mean(1)], 1)

    @torch.no_grad()
    def blank(self, side):
        return self.cells(torch.zeros(1, 3, side, side, dtype=self.gain.dtype))[0]


class Network(nn.Module):
    """The logits are 4 max - 2, 64 mean - 4 and 2 - 4 max."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Linear(2, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 64.0], [-4.0, 0.0]]))
            self.head.bias.copy_(torch.tensor([-2.0, -4.0, 2.0]))
