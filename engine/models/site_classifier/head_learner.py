"""Heads trained on a frozen encoder: every text is encoded once (`states.py`), and a training reads its token states.

The states of a text form one window, whose first position is the mean of its windows' first states. Tokens that an epoch does not
show take no part in the pool. So a head costs a hundredth of a full training. A text is still encoded window by window; only the
phrases of `dpla` reach across the borders of windows here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.batching import micro_batch, token_budget_batches
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.site_classifier.states import TextStates
from engine.models.tokens import Batch


class HeadLearner(SiteLearner):
    """See `engine.training.loop.Learner`: the pools and linear layers of a network learn, on stored states."""

    def __init__(
        self, network: SiteNetwork, examples: Examples, states: TextStates, config: LearnConfig, device: torch.device
    ) -> None:
        super().__init__(network, examples, config, device)
        self.states = states

    def parameters(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().parameters().items() if not name.startswith("encoder.")}

    @property
    def budget(self) -> int:
        """Padded tokens a micro-batch. Without an encoder nothing large is kept for the gradient, so a CPU takes many too."""
        return micro_batch(self.config.budget or 0, self.device.type, on_cpu=8192)

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        chosen = [self._windows(member, epoch) for member in members]
        lengths = [1 + sum(stop - start for start, stop in bounds) for bounds in chosen]
        for group in token_budget_batches([1] * len(chosen), lengths, self.budget):
            rows = [members[index] for index in group]
            yield _batch(rows, [chosen[index] for index in group]), rows

    def _forward(self, batch: Batch, members: list[int], epoch: int | None) -> Pooled:
        if epoch is not None:
            shown = batch.text & ~self._masked(batch, members, epoch)
            # Pooling a text without any token would give nothing to learn from.
            batch.text = torch.where(shown.any(1, keepdim=True), shown, batch.text)
        values = torch.zeros(*batch.ids.shape, self.states.width)
        for row, member in enumerate(members):
            states = self.states.of(member, _ranges(batch.position[row]))
            values[row, : len(states)] = torch.from_numpy(states)
        # The phrases of shown tokens reach for their neighbours, masked ones too.
        values[:, 1:].masked_fill_(~batch.text[:, 1:].unsqueeze(-1), 0.0)
        return self.network.pool(batch.to(self.device), values.to(self.device))


def _batch(members: list[int], chosen: Sequence[Sequence[tuple[int, int]]]) -> Batch:
    """One window a text, with a first position and the chosen token ranges; it has no ids, since its states are known."""
    width = 1 + max(sum(stop - start for start, stop in bounds) for bounds in chosen)
    position = torch.full((len(members), width), -1)
    for row, bounds in enumerate(chosen):
        tokens = [torch.arange(start, stop) for start, stop in bounds]
        position[row, 1 : 1 + sum(map(len, tokens))] = torch.cat(tokens) if tokens else -1
    text = position >= 0
    mask = text.clone()
    mask[:, 0] = True
    blank = torch.zeros_like(position)
    return Batch(blank, mask.long(), text, blank, torch.arange(len(members)), position, members)


def _ranges(position: Tensor) -> list[tuple[int, int]]:
    """The token ranges of a row of positions."""
    tokens = position[position >= 0].numpy()
    breaks = np.flatnonzero(np.diff(tokens) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(tokens, breaks) if len(part)]
