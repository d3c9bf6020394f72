"""A linear-chain conditional random field over BIO tags of words (Lafferty et al., ICML 2001), all in log space.

Emissions are [W, N, K], a row for each window and a column for each of its words, with a mask [W, N] that is true up to a
window's last word. An I that continues no entity of its type is impossible.
"""

import numpy as np
import torch
from torch import Tensor, nn

# Added for an impossible step. Finite, so that no gradient is NaN.
_NEVER = -1e4


class Crf(nn.Module):
    def __init__(self, types: int) -> None:
        super().__init__()
        tags = 1 + 2 * types
        self.steps, self.first, self.last = (nn.Parameter(torch.zeros(shape)) for shape in ((tags, tags), (tags,), (tags,)))
        inside = torch.arange(tags) % 2 == 0
        inside[0] = False
        never = inside.expand(tags, tags).clone()
        for kind in range(types):
            never[[1 + 2 * kind, 2 + 2 * kind], 2 + 2 * kind] = False
        self.register_buffer("never", never.float() * _NEVER, persistent=False)
        self.register_buffer("never_first", inside.float() * _NEVER, persistent=False)

    @property
    def transitions(self) -> tuple[Tensor, Tensor]:
        """Scores of steps from tag to tag [K, K], and of first tags [K]."""
        return self.steps + self.never, self.first + self.never_first

    def alphas(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log sums of all paths up to each word, by its tag [W, N, K]; behind the last word, those of the last."""
        steps, first = self.transitions
        rows = [first + emissions[:, 0]]
        for place in range(1, emissions.shape[1]):
            moved = (rows[-1].unsqueeze(-1) + steps).logsumexp(1) + emissions[:, place]
            rows.append(torch.where(mask[:, place].unsqueeze(-1), moved, rows[-1]))
        return torch.stack(rows, 1)

    def betas(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log sums of all paths after each word, by its tag [W, N, K]; 0 + the end's score at the last word and behind it."""
        steps, _ = self.transitions
        rows = [self.last.expand(len(emissions), -1)]
        for place in range(emissions.shape[1] - 2, -1, -1):
            moved = (steps + (emissions[:, place + 1] + rows[-1]).unsqueeze(1)).logsumexp(-1)
            rows.append(torch.where(mask[:, place + 1].unsqueeze(-1), moved, rows[-1]))
        return torch.stack(rows[::-1], 1)

    def log_partition(self, alphas: Tensor) -> Tensor:
        """Log sum of all paths [W]."""
        return (alphas[:, -1] + self.last).logsumexp(-1)

    def loss(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of the tags [W, N] of each window [W]."""
        steps, first = self.transitions
        real = mask.float()
        gold = tags.clamp(min=0)
        chosen = emissions.gather(-1, gold.unsqueeze(-1)).squeeze(-1)
        moved = steps[gold[:, :-1], gold[:, 1:]]
        end = gold.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        score = first[gold[:, 0]] + (chosen * real).sum(1) + (moved * real[:, 1:]).sum(1) + self.last[end]
        return self.log_partition(self.alphas(emissions, mask)) - score

    @torch.no_grad()
    def best(self, emissions: Tensor, mask: Tensor) -> np.ndarray:
        """The most probable tags [W, N] (Viterbi), 0 behind the last word."""
        steps, first = self.transitions
        score, back = first + emissions[:, 0], []
        for place in range(1, emissions.shape[1]):
            moved, origin = (score.unsqueeze(-1) + steps).max(1)
            inside = mask[:, place].unsqueeze(-1)
            score = torch.where(inside, moved + emissions[:, place], score)
            back.append(torch.where(inside, origin, torch.arange(len(first), device=score.device)))
        tag = (score + self.last).argmax(-1)
        tags = [tag]
        for origin in back[::-1]:
            tag = origin.gather(1, tag.unsqueeze(1)).squeeze(1)
            tags.append(tag)
        return (torch.stack(tags[::-1], 1) * mask).cpu().numpy()
