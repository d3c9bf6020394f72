"""Heads trained on a frozen encoder: every text is encoded once (`states.py`), and a training reads its token states.

A text's states stand as one window, its first position the mean of its windows' first states; what an epoch does not show takes
no part in the pool. So a head costs a hundredth of a full training, and many can be compared on the same states; a text is still
encoded window by window, and only the phrases of `dpla` reach across their borders here.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching import micro_batch, token_budget_batches
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.tokens import Batch


class Stored(Protocol):
    """Token states of the texts of a training, in the order of its examples."""

    @property
    def width(self) -> int:
        """Numbers of a state."""

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """The first state and those of some token ranges, [1 + tokens, d] fp32."""


class Absent(nn.Module):
    """Stands where an encoder would, in a network whose states are read and not computed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)


class HeadLearner(SiteLearner):
    """See `engine.training.loop.Learner`: the pools and linear layers of a network, on cached states."""

    def __init__(
        self, network: SiteNetwork, examples: Examples, states: Stored, config: LearnConfig, device: torch.device
    ) -> None:
        super().__init__(network, examples, config, device)
        self.states = states

    def parameters(self) -> dict[str, Tensor]:
        return {name: value for name, value in super().parameters().items() if not name.startswith("encoder.")}

    @property
    def budget(self) -> int:
        """Padded tokens a micro-batch; no encoder keeps anything of them."""
        return micro_batch(self.config.budget or 0, self.device.type, on_cpu=8192)

    def batches(self, members: list[int]) -> Iterator[tuple[Batch, list[int]]]:
        """Whole texts by number, in batches, each with the numbers in it."""
        lengths = [1 + len(self.examples.ids[member]) for member in members]
        for group in token_budget_batches([1] * len(members), lengths, self.budget):
            chosen = [members[index] for index in group]
            yield _batch(chosen, [[(0, len(self.examples.ids[member]))] for member in chosen]), chosen

    def pooled(self, batch: Batch, members: list[int]) -> Pooled:
        """What the network makes of whole texts."""
        return self._shown(batch, members, None)

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        chosen = [self._windows(member, epoch) for member in members]
        lengths = [1 + sum(stop - start for start, stop in bounds) for bounds in chosen]
        for group in token_budget_batches([1] * len(chosen), lengths, self.budget):
            yield _batch([members[index] for index in group], [chosen[index] for index in group]), [members[i] for i in group]

    def _shown(self, batch: Batch, members: list[int], epoch: int | None) -> Pooled:
        if epoch is not None:
            hidden = self._hidden(batch, members, epoch)
            # A text with nothing left would pool nothing.
            batch.text = torch.where((batch.text & ~hidden).any(1, keepdim=True), batch.text & ~hidden, batch.text)
        values = torch.zeros(*batch.ids.shape, self.states.width)
        for row, member in enumerate(members):
            shown = self.states.of(member, _ranges(batch.position[row]))
            values[row, : len(shown)] = torch.from_numpy(shown)
        # The phrases of what is shown reach for their neighbours, hidden ones too.
        values[:, 1:].masked_fill_(~batch.text[:, 1:].unsqueeze(-1), 0.0)
        return self.network.pool(batch.to(self.device), values.to(self.device))


def _batch(members: list[int], chosen: Sequence[Sequence[tuple[int, int]]]) -> Batch:
    width = 1 + max(sum(stop - start for start, stop in bounds) for bounds in chosen)
    position = np.full((len(members), width), -1, np.int64)
    for row, bounds in enumerate(chosen):
        places = np.concatenate([np.arange(start, stop) for start, stop in bounds]) if bounds else np.empty(0, np.int64)
        position[row, 1 : 1 + len(places)] = places
    place = torch.from_numpy(position)
    text = place >= 0
    mask = text.clone()
    mask[:, 0] = True
    blank = torch.zeros_like(place)
    return Batch(blank, mask.long(), text, blank, torch.arange(len(members)), place, members)


def _ranges(position: Tensor) -> list[tuple[int, int]]:
    """The token ranges of a row of positions."""
    places = position[position >= 0].numpy()
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(places, breaks) if len(part)]


def head_tensors(network: SiteNetwork, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: the adapter of a base checkpoint, and the pools and linear layers of a trained network.

    Args:
        base: tensors of the base checkpoint by name.
    """
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}
    return {name: value for name, value in base.items() if name.startswith("encoder.")} | own
