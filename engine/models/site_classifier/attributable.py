"""The site classifier offered to every method of `engine.explain`: whole reports of any length, one task at a time.

A report's positions are its text tokens over all windows; special tokens and a paired text belong to the model and stay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.codes import answers, target_probability, target_score
from engine.explain.explanation import Target
from engine.explain.rules import relevance_rules
from engine.explain.settings import OWN_METHODS
from engine.models.columns import list_values
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.coder import SiteCoder
from engine.models.site_classifier.evidence import METHODS
from engine.models.site_classifier.network import Pooled
from engine.models.site_classifier.remembered import Remembered
from engine.models.tokens import Batch, collate
from engine.text.units import Units


@dataclass(frozen=True)
class Reports:
    """Some reports as tokens, their words and their ids, all in one order. `pairs` are the paired texts' tokens or None."""

    ids: Sequence[np.ndarray]
    pairs: Sequence[np.ndarray | None]
    words: Sequence[Units]
    record_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


def reports(prepared: pa.Table) -> Reports:
    """Reports from the rows that `SiteCoder.prepare` gave, in their order; leave out rows with a failure before."""
    columns = ("word_start", "word_end", "word_of_token", "word_spoken")
    words = zip(*(list_values(prepared[name]) for name in columns), strict=True)
    return Reports(
        ids=list_values(prepared["input_ids"]),
        pairs=list_values(prepared["pair_ids"]),
        words=[Units("word", start, end, of, spoken.astype(bool)) for start, end, of, spoken in words],
        record_ids=prepared["record_id"].to_pylist(),
    )


class SiteExplainable:
    """See `engine.explain.protocol.Explainable`; `batch` is `Reports`, a target a label's number, or a mask of labels.

    Probabilities are those at the checkpoint's temperature, before an isotonic curve, as in the checks of the evidence: erasure
    asks how far a probability falls, and a curve of steps would hide it.
    """

    score_kind = "log_odds"

    def __init__(self, coder: SiteCoder, task: str, remembered: Remembered | None = None) -> None:
        """`remembered` holds windows that were encoded; tasks of one coder may share it."""
        if coder.method == "attention_constant":
            raise ContractError("load the coder with another method: this one changes the gradients of its network")
        self.coder = coder
        self.network = coder.network
        self.config = coder.config
        self.task = self.config.task(task)
        self.score_kind = "logit" if self.task.multi_label else "log_odds"
        self.temperature = coder.checkpoint.calibration.get(task, TaskCalibration()).temperature
        self.device = next(self.network.parameters()).device
        self.remembered = Remembered() if remembered is None else remembered
        self._constant_pooling = False
        self.own_methods = OWN_METHODS & set(self.config.evidence_methods)

    def record_ids(self, batch: Reports) -> list[str]:
        return list(batch.record_ids)

    def sizes(self, batch: Reports) -> np.ndarray:
        return np.array([len(ids) for ids in batch.ids], dtype=np.int64)

    def units(self, batch: Reports) -> list[Units]:
        return list(batch.words)

    def named(self, batch: Reports, targets: Tensor) -> list[Target]:
        if self.task.multi_label:
            chosen = [np.flatnonzero(row) for row in targets.cpu().numpy() > 0]
            return [Target(";".join(self.task.labels[i] for i in row), "label") for row in chosen]
        return [Target(self.task.labels[index], "class") for index in targets.tolist()]

    def targets(self, codes: Sequence[str]) -> Tensor:
        """Targets [records] of given codes, joined by `;` where the task is multi-label.

        Raises:
            ConfigError: the model does not know a code.
        """
        numbers = [self.task.numbers(code) for code in codes]
        if not self.task.multi_label:
            return torch.tensor([one for (one,) in numbers], dtype=torch.long)
        chosen = torch.zeros(len(codes), len(self.task.labels))
        for row, labels in enumerate(numbers):
            chosen[row, labels] = 1.0
        return chosen

    @torch.no_grad()
    def predicted(self, batch: Reports) -> Tensor:
        """What the model itself answers, as targets."""
        return answers(self._logits(batch), self.task.multi_label).cpu()

    def take(self, batch: Reports, members: Sequence[int]) -> Reports:
        columns = (batch.ids, batch.pairs, batch.words, batch.record_ids)
        return Reports(*([column[member] for member in members] for column in columns))

    def erase(self, batch: Reports, keep: np.ndarray, how: str = "mask") -> Reports:
        flags = np.split(keep, np.cumsum(self.sizes(batch))[:-1])
        if how == "mask":
            blank = self.config.special[3]
            return replace(
                batch, ids=[np.where(kept, ids, blank).astype(ids.dtype) for ids, kept in zip(batch.ids, flags, strict=True)]
            )
        words = [replace(units, of_position=units.of_position[kept]) for units, kept in zip(batch.words, flags, strict=True)]
        return replace(batch, ids=[ids[kept] for ids, kept in zip(batch.ids, flags, strict=True)], words=words)

    @torch.no_grad()
    def embed(self, batch: Reports) -> Tensor:
        ids = np.concatenate([np.empty(0, np.int64), *batch.ids]).astype(np.int64)
        return self.network.embed(torch.from_numpy(ids).to(self.device)).float()

    @torch.no_grad()
    def blank(self, batch: Reports) -> Tensor:
        positions = int(self.sizes(batch).sum())
        return self.network.embed(torch.tensor(self.config.special[3], device=self.device)).float().expand(positions, -1)

    def score(self, batch: Reports, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        return target_score(self._logits(batch, embeds), targets.to(self.device), self.task.multi_label)

    def probability(self, batch: Reports, targets: Tensor) -> Tensor:
        return target_probability(self._logits(batch), targets.to(self.device), self.task.multi_label, self.temperature)

    def holds(self, batch: Reports, targets: Tensor) -> Tensor:
        same = answers(self._logits(batch), self.task.multi_label) == targets.to(self.device)
        return same.all(-1) if self.task.multi_label else same

    @contextmanager
    def relevance_rules(self, attention: str) -> Iterator[None]:
        """The encoder's rules, and pooling weights held constant."""
        with relevance_rules(self.network.encoder, attention):
            self._constant_pooling = True
            try:
                yield
            finally:
                self._constant_pooling = False

    def own(self, method: str, batch: Reports, targets: Tensor) -> Tensor:
        """`pooling`, the decomposition that the shipped model explains itself with, or its pooling's `attention`."""
        windows = self._windows(batch)
        with torch.no_grad():
            pooled = self._pooled(windows, self._encoded(windows))
            embeds = self.network.embed(windows.ids)
        scores = METHODS[method](self.network, windows, embeds, pooled, {self.task.name: targets.to(self.device)})
        return scores[self.task.name][windows.text].float()

    def _windows(self, batch: Reports) -> Batch:
        return collate(
            list(range(len(batch))),
            batch.ids,
            window=self.config.window,
            special=self.config.special,
            pairs=batch.pairs if self.config.paired else None,
        ).to(self.device)

    def _logits(self, batch: Reports, embeds: Tensor | None = None) -> Tensor:
        windows = self._windows(batch)
        states = self._encoded(windows) if embeds is None else self._differentiable(windows, embeds)
        return self._pooled(windows, states).logits[self.task.name]

    def _encoded(self, windows: Batch) -> Tensor:
        """Token states; windows that were encoded before, for another copy or task, are not encoded again."""
        if not len(windows.ids):
            return torch.zeros(*windows.ids.shape, self.network.encoder.config.hidden_size, device=self.device)
        # Under the rules of relevance the last bits of a state may be others.
        known = Remembered() if self._constant_pooling else self.remembered
        return known.states(windows, lambda once: self.network.encode(once, chunk=self._chunk(windows)))

    def _differentiable(self, windows: Batch, embeds: Tensor) -> Tensor:
        inputs = self.network.embed(windows.ids).detach().clone()
        inputs[windows.text] = embeds.to(inputs.dtype)
        return self.network.encode(windows, inputs, self._chunk(windows))

    def _pooled(self, windows: Batch, states: Tensor) -> Pooled:
        name = self.task.name
        found = self.network.pools[name](states, windows, self._constant_pooling)
        return Pooled(states, {name: found}, {name: self.network.heads[name](found.context)})

    def _chunk(self, windows: Batch) -> int:
        return max(1, 2 * self.coder.budget // max(1, windows.ids.shape[1]))
