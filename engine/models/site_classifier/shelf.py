"""A folder of token states: each text is encoded once, whichever trainings have it.

Texts come as tokenized examples. A text's key is the digest of its tokens and of its second text's, so the same words are found
again under any id. To make heads cheap, states can be kept as their projection on the first principal directions of some texts:
128 of 384 leave a ninth of the work. Such a head sees less than one on whole states, and results must say so.
"""

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from engine.models.site_classifier.cached import States, put
from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.learner import Examples, LearnConfig, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import Batch

_ALL = 10**6
# Texts whose states decide the directions, and texts encoded between two writes.
_FIT, _PART = 200, 256
# Seconds after which what has a temporary name is no longer being written: a part takes less than a minute.
_DEAD = 86400


class Absent(nn.Module):
    """Stands where an encoder would, in a network whose states are read and not computed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)


class Taken:
    """States of chosen texts; see `States.of`."""

    def __init__(self, places: Sequence[tuple[States, int]], width: int) -> None:
        self._places = places
        self.width = width

    def __len__(self) -> int:
        return len(self._places)

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        part, place = self._places[text]
        return part.of(place, bounds)

    def mean(self, text: int) -> np.ndarray:
        """The mean state of a text's tokens, [width] fp32."""
        part, place = self._places[text]
        return part.of(place, [(0, int(part.start[place + 1] - part.start[place]))])[1:].mean(0)


class Shelf:
    """The states of an encoder's texts in a folder, which belongs to this encoder, its window, and the texts of `fit`.

    Args:
        encoder: in evaluation mode. width: numbers kept of a state; 0 for all of them.
    """

    def __init__(self, folder: Path, config: ClassifierConfig, encoder: nn.Module, width: int = 0) -> None:
        self.folder = folder
        self.network = SiteNetwork(config, encoder)
        self.width = width or encoder.config.hidden_size
        self._whole = self.width >= encoder.config.hidden_size
        self._basis: np.ndarray | None = None
        self._found: dict[bytes, tuple[States, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        _swept(folder)
        for part in sorted(folder.glob("part-*")):
            self._read(part)

    def fit(self, examples: Examples) -> None:
        """Finds the directions of the projection, from some of the texts, or reads them where they are known."""
        file = self.folder / "basis.npy"
        if self._whole:
            return
        if not file.is_file():
            keys = _keys(examples)
            chosen = sorted(range(len(keys)), key=lambda index: keys[index])[:_FIT]
            size = self.network.encoder.config.hidden_size
            total = np.zeros((size, size))
            for tokens, first in self._encoded(examples, chosen):
                # A first state stands for its text, as one token would hardly count.
                total += tokens.T @ tokens / max(1, len(tokens)) + np.outer(first, first)
            _, directions = np.linalg.eigh(total)
            put(file, directions[:, ::-1][:, : self.width].astype(np.float32))
        self._basis = np.load(file)

    def states(self, examples: Examples, keep: bool = True) -> Taken:
        """The states of the examples, in their order; what is not there yet is encoded, and kept where it is to be kept."""
        keys = _keys(examples)
        missing = list({keys[index]: index for index in range(len(keys)) if keys[index] not in self._found}.values())
        found = dict(self._found) if not keep else self._found
        for start in range(0, len(missing), _PART):
            members = missing[start : start + _PART]
            made = self._made(examples, members)
            if keep:
                self._read(self._written([keys[index] for index in members], made))
            else:
                found |= {keys[index]: (made, place) for place, index in enumerate(members)}
        return Taken([found[key] for key in keys], self.width)

    def first_attention(self, examples: Examples) -> list[np.ndarray]:
        """How the last layer's attention of the first token lies on each text's tokens; what special tokens have is left out."""
        keys = _keys(examples)
        file = self.folder / f"attention-{_digest(keys).hex()}.npy"
        if not file.is_file():
            found = [np.zeros(len(ids), np.float32) for ids in examples.ids]
            for batch, members in self._windows(examples, range(len(keys))):
                batch.lay(self.network.first_attention(batch), [found[member] for member in members])
            put(file, np.concatenate(found))
        ends = np.cumsum([len(ids) for ids in examples.ids])
        return np.split(np.load(file), ends[:-1])

    def _made(self, examples: Examples, members: Sequence[int]) -> States:
        parts, firsts = [], []
        for tokens, first in self._encoded(examples, members):
            parts.append(self._projected(tokens).astype(np.float16))
            firsts.append(self._projected(first))
        start = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return States(np.concatenate(parts), start, np.stack(firsts).astype(np.float32))

    def _projected(self, values: np.ndarray) -> np.ndarray:
        return values if self._basis is None else values @ self._basis

    @torch.inference_mode()
    def _encoded(self, examples: Examples, members: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token states [tokens, d] and the mean first state [d] of each of the members, in their order."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for batch, rows in self._windows(examples, members):
            values = self.network.encode(batch).numpy()
            record, text = batch.record.numpy(), batch.text.numpy().astype(bool)
            for index, member in enumerate(rows):
                mine = record == index
                found[member] = (values[mine][text[mine]], values[mine, 0].mean(0))
        return [found[member] for member in members]

    def _windows(self, examples: Examples, members: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
        reader = SiteLearner(self.network, examples, LearnConfig(windows=_ALL, budget=4096), torch.device("cpu"))
        return reader._batches(list(members), 0)

    def _written(self, keys: Sequence[bytes], made: States) -> Path:
        """A part of the shelf, whole or not at all, named by its keys; another process may have made the same."""
        target = self.folder / f"part-{_digest(keys).hex()}"
        part = self.folder / f"tmp-{uuid.uuid4().hex}"
        part.mkdir()
        for name, values in (("tokens", made.tokens), ("start", made.start), ("first", made.first)):
            np.save(part / f"{name}.npy", values)
        np.save(part / "keys.npy", np.array([np.frombuffer(key, np.uint8) for key in keys]))
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(part)
        return target

    def _read(self, part: Path) -> None:
        tokens = np.load(part / "tokens.npy", mmap_mode="r")
        states = States(tokens, np.load(part / "start.npy"), np.load(part / "first.npy"))
        for place, key in enumerate(np.load(part / "keys.npy")):
            self._found[key.tobytes()] = (states, place)


def _swept(folder: Path) -> None:
    """Removes what processes that were killed left half written."""
    for part in (*folder.glob("tmp-*"), *folder.glob("*.tmp.npy")):
        try:
            if time.time() - part.stat().st_mtime > _DEAD:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError:
            # Another process sweeps here too, or it is another user's.
            continue


def _keys(examples: Examples) -> list[bytes]:
    pairs = examples.pairs or [None] * len(examples.ids)
    return [
        _digest([ids.astype(np.int32).tobytes(), b"" if pair is None else pair.astype(np.int32).tobytes()])
        for ids, pair in zip(examples.ids, pairs, strict=True)
    ]


def _digest(parts: Sequence[bytes]) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(len(part).to_bytes(8, "big") + part)
    return made.digest()
