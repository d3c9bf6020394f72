"""A folder of token states: each text is encoded once, and whoever trains a head on it reads them.

The key of a text is the digest of its tokens and of its second text's, so equal texts share their states whatever their ids. A
number of a state takes two bytes: about 770 a token at a width of 384.
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
from engine.models.tokens import Batch
from engine.storage import whole_folder

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder

# The number of a text, its token states [tokens, d], and the mean first state [d] of its windows.
Encoded = tuple[int, np.ndarray, np.ndarray]
# Encodes texts by their numbers, in any order.
Encode = Callable[[Sequence[int]], Iterator[Encoded]]

# Texts that are written together.
_PART = 256
# Seconds after which a temporary file is taken for a leftover: a part is written in less than a minute.
_STALE = 86400


@dataclass(frozen=True)
class States:
    """Token states of some texts: `tokens` [all tokens, d] fp16, text by text, `start` [texts + 1], `first` [texts, d]."""

    tokens: np.ndarray
    start: np.ndarray
    first: np.ndarray


class TextStates:
    """The states of chosen texts, wherever they are stored; `width` is the size of a state."""

    def __init__(self, places: Sequence[tuple[States, int]], width: int) -> None:
        self._places = places
        self.width = width

    def __len__(self) -> int:
        return len(self._places)

    def of(self, text: int, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
        """The first state of a text and those of some of its token ranges, [1 + tokens, d] fp32."""
        part, place = self._places[text]
        begin = int(part.start[place])
        ranges = [part.tokens[begin + start : begin + stop] for start, stop in bounds]
        return np.concatenate([part.first[place][None], *ranges]).astype(np.float32)


class StateFolder:
    """The states of the texts of one encoder and window, in a folder; `width` is the size of a state."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        # A text without tokens has no window and is never encoded: its first state is 0.
        empty = States(np.zeros((0, width), np.float16), np.zeros(2, np.int64), np.zeros((1, width), np.float32))
        self._places: dict[bytes, tuple[States, int]] = {key_of(np.empty(0)): (empty, 0)}
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        for part in sorted(folder.glob("part-*")):
            self._read(part)

    def states(self, keys: Sequence[bytes], encode: Encode) -> TextStates:
        """The states of texts, in their order; those that the folder lacks are encoded and written to it."""
        for members, states in self._encoded(keys, encode):
            self._read(self._write([keys[index] for index in members], states))
        return TextStates([self._places[key] for key in keys], self.width)

    def _encoded(self, keys: Sequence[bytes], encode: Encode) -> Iterator[tuple[list[int], States]]:
        """The states of texts that the folder lacks, `_PART` texts at a time, each part with the numbers of its texts."""
        missing = {key: index for index, key in enumerate(keys) if key not in self._places}.values()
        if not missing:
            return
        order = {member: place for place, member in enumerate(missing)}
        waiting: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for count, (member, tokens, first) in enumerate(encode(list(missing)), 1):
            waiting[member] = tokens.astype(np.float16), first
            if len(waiting) == _PART or count == len(missing):
                members = sorted(waiting, key=order.__getitem__)
                tokens_of, first_of = zip(*(waiting.pop(member) for member in members), strict=True)
                start = np.concatenate([[0], np.cumsum([len(each) for each in tokens_of])]).astype(np.int64)
                yield members, States(np.concatenate(tokens_of), start, np.stack(first_of).astype(np.float32))

    def _write(self, keys: Sequence[bytes], states: States) -> Path:
        """Writes a part, whole or not at all. Its name is that of its keys: another process may have written the same one."""
        target = self.folder / f"part-{digest_of(keys).hex()}"
        with whole_folder(target) as part:
            for name, values in (("tokens", states.tokens), ("start", states.start), ("first", states.first)):
                np.save(part / f"{name}.npy", values)
            np.save(part / "keys.npy", np.array([np.frombuffer(key, np.uint8) for key in keys]))
        return target

    def _read(self, part: Path) -> None:
        tokens = np.load(part / "tokens.npy", mmap_mode="r")
        states = States(tokens, np.load(part / "start.npy"), np.load(part / "first.npy"))
        self._places |= {key.tobytes(): (states, place) for place, key in enumerate(np.load(part / "keys.npy"))}


def encode(coder: "SiteCoder", prepared: pa.Table, folder: Path) -> TextStates:
    """Token states of prepared texts as the product encodes them, in their order, kept in a folder of this coder's own."""
    texts = zip(list_values(prepared["input_ids"]), list_values(prepared["pair_ids"]), strict=True)

    def encoded(members: Sequence[int]) -> Iterator[Encoded]:
        wanted = set(members)
        # All texts are batched, wanted or not, so that the batches of a training that goes on are those that it began with.
        for rows, batch in coder.batches(prepared):
            if not wanted.isdisjoint(rows):
                with torch.inference_mode():
                    states = coder.network.encode(batch, chunk=coder.chunk(batch))
                yield from (text for text in by_text(batch, states, rows) if text[0] in wanted)

    shelf = StateFolder(folder, coder.network.encoder.config.hidden_size)
    return shelf.states([key_of(ids, pair) for ids, pair in texts], encoded)


def by_text(batch: Batch, states: torch.Tensor, members: Sequence[int]) -> Iterator[Encoded]:
    """The states [W, L, d] of a batch of windows, text by text; `members` are the texts' numbers."""
    values = states.cpu().numpy()
    record, text = batch.record.cpu().numpy(), batch.text.cpu().numpy().astype(bool)
    for index, member in enumerate(members):
        windows = record == index
        yield member, values[windows][text[windows]], values[windows, 0].mean(0)


def key_of(ids: np.ndarray, pair: np.ndarray | None = None) -> bytes:
    """The digest of a text's tokens and of those of its second text."""
    return digest_of([ids.astype(np.int32).tobytes(), b"" if pair is None else pair.astype(np.int32).tobytes()])


def digest_of(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half written."""
    for part in folder.glob(".*.tmp"):
        try:
            if time.time() - part.stat().st_mtime > _STALE:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError:
            # Another process removes it too, or it belongs to another user.
            continue
