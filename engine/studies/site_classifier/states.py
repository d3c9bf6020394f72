"""Token states for the studies of frozen encoders: projected on fewer numbers, and encoded as a training encodes texts.

To make heads cheaper, states can be kept as their projection on the first principal directions of some texts: 128 of 384 numbers
leave a ninth of the work. A head on projected states sees less than one on whole states, and results must say so.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import Encode, Encoded, StateFolder, TextStates, by_text, digest_of, key_of
from engine.models.tokens import Batch
from engine.storage import whole_file

_ALL = 10**6
# Texts whose states decide the directions, and texts encoded at a time.
_FIT, _TOGETHER = 200, 256


class NoEncoder(nn.Module):
    """Takes the place of the encoder in a network whose states are read and not computed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)


class ProjectedFolder(StateFolder):
    """A folder of states, projected from `size` to `width` numbers; a width of 0 keeps all of them.

    The folder belongs to one encoder, its window, and the texts of `fit`.
    """

    def __init__(self, folder: Path, size: int, width: int = 0) -> None:
        super().__init__(folder, width or size)
        self.size = size
        self._basis: np.ndarray | None = None

    def fit(self, keys: Sequence[bytes], encode: Encode) -> None:
        """Finds the directions of the projection from some of the texts, or reads them from the folder."""
        file = self.folder / "basis.npy"
        if self.width >= self.size:
            return
        if not file.is_file():
            chosen = sorted(range(len(keys)), key=lambda index: keys[index])[:_FIT]
            states = {member: (tokens, first) for member, tokens, first in encode(chosen)}
            total = np.zeros((self.size, self.size))
            for tokens, first in (states[member] for member in chosen):
                # A first state counts like a text, since as one token it would hardly count.
                total += tokens.T @ tokens / max(1, len(tokens)) + np.outer(first, first)
            _, directions = np.linalg.eigh(total)
            save(file, directions[:, ::-1][:, : self.width].astype(np.float32))
        self._basis = np.load(file)

    def states(self, keys: Sequence[bytes], encode: Encode, keep: bool = True) -> TextStates:
        """See `StateFolder.states`; without `keep` nothing is written."""

        def projected(members: Sequence[int]) -> Iterator[Encoded]:
            for member, tokens, first in encode(members):
                yield (member, tokens, first) if self._basis is None else (member, tokens @ self._basis, first @ self._basis)

        if keep:
            return super().states(keys, projected)
        places = dict(self._places)
        for members, part in self._encoded(keys, projected):
            places |= {keys[index]: (part, place) for place, index in enumerate(members)}
        return TextStates([places[key] for key in keys], self.width)


def windowed(network: SiteNetwork, examples: Examples, members: Sequence[int]) -> Iterator[Encoded]:
    """Token states of tokenized examples as a training encodes them: all their windows, by a network in evaluation mode."""
    for start in range(0, len(members), _TOGETHER):
        for batch, rows in windows(network, examples, members[start : start + _TOGETHER]):
            with torch.inference_mode():
                states = network.encode(batch)
            yield from by_text(batch, states, rows)


def first_attention(folder: Path, network: SiteNetwork, examples: Examples) -> list[np.ndarray]:
    """The last layer's attention of the first token to each token of each text, kept in the folder; that to special tokens is
    left out."""
    file = folder / f"attention-{digest_of(keys_of(examples)).hex()}.npy"
    if not file.is_file():
        weights = [np.zeros(len(ids), np.float32) for ids in examples.ids]
        for batch, members in windows(network, examples, range(len(weights))):
            batch.lay(network.first_attention(batch), [weights[member] for member in members])
        save(file, np.concatenate(weights))
    ends = np.cumsum([len(ids) for ids in examples.ids])
    return np.split(np.load(file), ends[:-1])


def windows(network: SiteNetwork, examples: Examples, members: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
    """Batches with all windows of some examples, each with the numbers of its examples."""
    reader = SiteLearner(network, examples, LearnConfig(windows=_ALL, budget=4096), torch.device("cpu"))
    return reader._batches(list(members), 0)


def keys_of(examples: Examples) -> list[bytes]:
    pairs = examples.pairs or [None] * len(examples.ids)
    return [key_of(ids, pair) for ids, pair in zip(examples.ids, pairs, strict=True)]


def save(file: Path, values: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    with whole_file(file) as part, open(part, "wb") as stream:
        np.save(stream, values)
