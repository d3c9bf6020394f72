"""A folder of token states: each text is encoded once, whichever trainings have it.

A text's key is the digest of its tokens and of its second text's, so the same words are found again under any id. Two bytes are
kept of each number of a state, about 770 a token at 384. To make heads cheaper, states can be kept as their projection on the
first principal directions of some texts: 128 of 384 leave a ninth of the work. Such a head sees less than one on whole states,
and results must say so.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from engine.models.columns import list_values
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import Batch
from engine.storage import whole_file, whole_folder

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder

# The token states [tokens, d] of a text by its number, and the mean first state [d] of its windows.
Encoded = tuple[int, np.ndarray, np.ndarray]
# Encodes texts by their numbers, in any order.
Encode = Callable[[Sequence[int]], Iterator[Encoded]]

_ALL = 10**6
# Texts whose states decide the directions, and texts encoded between two writes.
_FIT, _PART = 200, 256
# Seconds after which what has a temporary name is no longer being written: a part takes less than a minute.
_DEAD = 86400


@dataclass(frozen=True)
class States:
    """Token states of some texts: `tokens` [all tokens, d] fp16, text by text, `start` [texts + 1], `first` [texts, d]."""

    tokens: np.ndarray
    start: np.ndarray
    first: np.ndarray

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """The first state and those of some token ranges, [1 + tokens, d] fp32."""
        begin = int(self.start[text])
        parts = [self.tokens[begin + start : begin + stop] for start, stop in bounds]
        return np.concatenate([self.first[text][None], *parts]).astype(np.float32)


class Taken:
    """States of chosen texts, wherever they lie; `width` are the numbers of a state."""

    def __init__(self, places: Sequence[tuple[States, int]], width: int) -> None:
        self._places = places
        self.width = width

    def __len__(self) -> int:
        return len(self._places)

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """See `States.of`."""
        part, place = self._places[text]
        return part.of(place, bounds)

    def mean(self, text: int) -> np.ndarray:
        """The mean state of a text's tokens, [width] fp32."""
        part, place = self._places[text]
        return part.of(place, [(0, int(part.start[place + 1] - part.start[place]))])[1:].mean(0)


class StateFolder:
    """The states of an encoder's texts in a folder, which belongs to this encoder, its window, and the texts of `fit`.

    Args:
        size: numbers of a state as it is encoded. width: numbers kept of it; 0 for all of them.
    """

    def __init__(self, folder: Path, size: int, width: int = 0) -> None:
        self.folder = folder
        self.size = size
        self.width = width or size
        self._basis: np.ndarray | None = None
        # A text without tokens has no window; every head gives it what it gives to nothing at all.
        nothing = States(np.zeros((0, self.width), np.float16), np.zeros(2, np.int64), np.zeros((1, self.width), np.float32))
        self._found: dict[bytes, tuple[States, int]] = {key_of(np.empty(0)): (nothing, 0)}
        folder.mkdir(parents=True, exist_ok=True)
        _swept(folder)
        for part in sorted(folder.glob("part-*")):
            self._read(part)

    def fit(self, keys: Sequence[bytes], encode: Encode) -> None:
        """Finds the directions of the projection, from some of the texts, or reads them where they are known."""
        file = self.folder / "basis.npy"
        if self.width >= self.size:
            return
        if not file.is_file():
            chosen = sorted(range(len(keys)), key=lambda index: keys[index])[:_FIT]
            made = {member: (tokens, first) for member, tokens, first in encode(chosen)}
            total = np.zeros((self.size, self.size))
            for tokens, first in (made[member] for member in chosen):
                # A first state stands for its text, as one token would hardly count.
                total += tokens.T @ tokens / max(1, len(tokens)) + np.outer(first, first)
            _, directions = np.linalg.eigh(total)
            put(file, directions[:, ::-1][:, : self.width].astype(np.float32))
        self._basis = np.load(file)

    def states(self, keys: Sequence[bytes], encode: Encode, keep: bool = True) -> Taken:
        """The states of texts, in their order; what is not there yet is encoded, and kept where it is to be kept."""
        missing = list({key: index for index, key in enumerate(keys) if key not in self._found}.values())
        found = self._found if keep else dict(self._found)
        for members, made in self._parts(missing, encode if missing else lambda members: iter(())):
            if keep:
                self._read(self._written([keys[index] for index in members], made))
            else:
                found |= {keys[index]: (made, place) for place, index in enumerate(members)}
        return Taken([found[key] for key in keys], self.width)

    def _parts(self, missing: Sequence[int], encode: Encode) -> Iterator[tuple[list[int], States]]:
        """The states of texts some at a time, each with its members in the order of `missing`."""
        order = {member: place for place, member in enumerate(missing)}
        made: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for count, (member, tokens, first) in enumerate(encode(missing), 1):
            made[member] = self._projected(tokens).astype(np.float16), self._projected(first)
            if len(made) == _PART or count == len(missing):
                members = sorted(made, key=order.__getitem__)
                parts, firsts = zip(*(made.pop(member) for member in members), strict=True)
                start = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
                yield members, States(np.concatenate(parts), start, np.stack(firsts).astype(np.float32))

    def _projected(self, values: np.ndarray) -> np.ndarray:
        return values if self._basis is None else values @ self._basis

    def _written(self, keys: Sequence[bytes], made: States) -> Path:
        """A part of the folder, whole or not at all, named by its keys; another process may have made the same."""
        target = self.folder / f"part-{_digest(keys).hex()}"
        with whole_folder(target) as part:
            for name, values in (("tokens", made.tokens), ("start", made.start), ("first", made.first)):
                np.save(part / f"{name}.npy", values)
            np.save(part / "keys.npy", np.array([np.frombuffer(key, np.uint8) for key in keys]))
        return target

    def _read(self, part: Path) -> None:
        tokens = np.load(part / "tokens.npy", mmap_mode="r")
        states = States(tokens, np.load(part / "start.npy"), np.load(part / "first.npy"))
        for place, key in enumerate(np.load(part / "keys.npy")):
            self._found[key.tobytes()] = (states, place)


def encode(coder: "SiteCoder", prepared: pa.Table, folder: Path, more: Sequence[bytes] = ()) -> Taken:
    """Token states of prepared texts as the product encodes them, in their order, kept in `folder`, which is the coder's.

    Args:
        more: keys of further texts, which the folder has or which have no token.
    """
    ids, pairs = list_values(prepared["input_ids"]), list_values(prepared["pair_ids"])
    keys = [key_of(tokens, pair) for tokens, pair in zip(ids, pairs, strict=True)]
    shelf = StateFolder(folder, coder.network.encoder.config.hidden_size)
    return shelf.states([*keys, *more], lambda members: _coded(coder, prepared, set(members)))


def _coded(coder: "SiteCoder", prepared: pa.Table, wanted: set[int]) -> Iterator[Encoded]:
    # The batches are those of all texts, so that a folder that is filled in several goes is the one of a single go.
    for members, batch in coder.batches(prepared):
        if not wanted.isdisjoint(members):
            with torch.inference_mode():
                states = coder.network.encode(batch, chunk=coder.chunk(batch))
            yield from (each for each in _texts(batch, states, members) if each[0] in wanted)


def windowed(network: SiteNetwork, examples: Examples, members: Sequence[int]) -> Iterator[Encoded]:
    """Token states of tokenized examples as a training encodes them: all their windows, by a network in evaluation mode."""
    for start in range(0, len(members), _PART):
        for batch, rows in _windows(network, examples, members[start : start + _PART]):
            with torch.inference_mode():
                states = network.encode(batch)
            yield from _texts(batch, states, rows)


def first_attention(folder: Path, network: SiteNetwork, examples: Examples) -> list[np.ndarray]:
    """How the last layer's attention of the first token lies on each text's tokens, kept in the folder; what special tokens have
    is left out."""
    file = folder / f"attention-{_digest(keys_of(examples)).hex()}.npy"
    if not file.is_file():
        found = [np.zeros(len(ids), np.float32) for ids in examples.ids]
        for batch, members in _windows(network, examples, range(len(found))):
            batch.lay(network.first_attention(batch), [found[member] for member in members])
        put(file, np.concatenate(found))
    ends = np.cumsum([len(ids) for ids in examples.ids])
    return np.split(np.load(file), ends[:-1])


def keys_of(examples: Examples) -> list[bytes]:
    pairs = examples.pairs or [None] * len(examples.ids)
    return [key_of(ids, pair) for ids, pair in zip(examples.ids, pairs, strict=True)]


def key_of(ids: np.ndarray, pair: np.ndarray | None = None) -> bytes:
    """What stands for a text's tokens and those of its second text."""
    return _digest([ids.astype(np.int32).tobytes(), b"" if pair is None else pair.astype(np.int32).tobytes()])


def put(file: Path, values: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    with whole_file(file) as part, open(part, "wb") as stream:
        np.save(stream, values)


def _windows(network: SiteNetwork, examples: Examples, members: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
    reader = SiteLearner(network, examples, LearnConfig(windows=_ALL, budget=4096), torch.device("cpu"))
    return reader._batches(list(members), 0)


def _texts(batch: Batch, states: torch.Tensor, members: Sequence[int]) -> Iterator[Encoded]:
    """The states of each text of a batch of windows."""
    values = states.cpu().numpy()
    record, text = batch.record.cpu().numpy(), batch.text.cpu().numpy().astype(bool)
    for index, member in enumerate(members):
        mine = record == index
        yield member, values[mine][text[mine]], values[mine, 0].mean(0)


def _swept(folder: Path) -> None:
    """Removes what processes that were killed left half written."""
    for part in folder.glob(".*.tmp"):
        try:
            if time.time() - part.stat().st_mtime > _DEAD:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError:
            # Another process sweeps here too, or it is another user's.
            continue


def _digest(parts: Sequence[bytes]) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(len(part).to_bytes(8, "big") + part)
    return made.digest()
