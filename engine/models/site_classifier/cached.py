"""Heads trained on a frozen encoder: every text is encoded once, and a training reads its token states.

A text's states stand as one window, its first position the mean of its windows' first states; what an epoch does not show takes
no part in the pool. So a head costs a hundredth of a full training, and many can be compared on the same states; a text is still
encoded window by window, and only the phrases of `dpla` reach across their borders here.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from engine.batching import micro_batch, token_budget_batches
from engine.models.site_classifier.learner import Examples, LearnConfig, SiteLearner
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.tokens import Batch

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder


class Stored(Protocol):
    """Token states of the texts of a training, in the order of its examples."""

    @property
    def width(self) -> int:
        """Numbers of a state."""

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """See `States.of`."""


@dataclass(frozen=True)
class States:
    """Token states of some texts: `tokens` [all tokens, d] fp16, text by text, `start` [texts + 1], `first` [texts, d]."""

    tokens: np.ndarray
    start: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """The first state and those of some token ranges, [1 + tokens, d] fp32."""
        begin = int(self.start[text])
        parts = [self.tokens[begin + start : begin + stop] for start, stop in bounds]
        return np.concatenate([self.first[text][None], *parts]).astype(np.float32)


def encode(coder: "SiteCoder", prepared: pa.Table, folder: Path) -> States:
    """Token states of prepared texts, in their order, kept in `folder` and read from there where they are complete.

    The folder belongs to these texts and this model.
    """
    done = folder / "start.npy"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _encode(coder, prepared, folder)
    return States(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(done), np.load(folder / "first.npy"))


@torch.inference_mode()
def _encode(coder: "SiteCoder", prepared: pa.Table, folder: Path) -> None:
    sizes = np.array([len(ids) for ids in prepared["input_ids"].to_pylist()], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)])
    width = coder.network.encoder.config.hidden_size
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.float16, (int(start[-1]), width))
    first = np.zeros((len(sizes), width), np.float32)
    for members, batch in coder.batches(prepared):
        states = coder.network.encode(batch, chunk=coder.chunk(batch))
        record, text = batch.record.cpu().numpy(), batch.text.cpu().numpy().astype(bool)
        values = states.cpu().numpy()
        for index, member in enumerate(members):
            mine = record == index
            tokens[start[member] : start[member + 1]] = values[mine][text[mine]]
            first[member] = values[mine, 0].mean(0)
    tokens.flush()
    put(folder / "first.npy", first)
    # Last, since it says that the others are whole.
    put(folder / "start.npy", start)


def put(file: Path, values: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    part = file.with_name(f"{file.stem}-{os.getpid()}.tmp.npy")
    np.save(part, values)
    os.replace(part, file)


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
        return micro_batch(self.config.budget, self.device.type, on_cpu=8192)

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
