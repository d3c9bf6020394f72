"""A model of codes as `engine.explain.protocol.Explainable`: whole texts of any length, one task at a time.

A text's positions are its tokens over all windows; special tokens and a second text are never erased.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from engine.explain.codes import answers, target_probability, target_score
from engine.explain.explanation import Target
from engine.explain.rules import relevance_rules
from engine.models.columns import list_values
from engine.models.explained import label_numbers
from engine.models.tokens import Batch, collate
from engine.text.units import Units

if TYPE_CHECKING:
    from engine.models.code_system import CodeSystem


@dataclass(frozen=True)
class Reports:
    """Reports as tokens, with their words and ids, all in one order. `pairs` are the tokens of the second texts, or None."""

    ids: Sequence[np.ndarray]
    pairs: Sequence[np.ndarray | None]
    words: Sequence[Units]
    record_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


def reports(prepared: pa.Table) -> Reports:
    """Reports from prepared rows without failures, in their order."""
    columns = ("word_start", "word_end", "word_of_token", "word_spoken")
    words = zip(*(list_values(prepared[name]) for name in columns), strict=True)
    return Reports(
        ids=list_values(prepared["input_ids"]),
        pairs=list_values(prepared["pair_ids"]) if "pair_ids" in prepared.column_names else [None] * len(prepared),
        words=[Units("word", start, end, of, spoken.astype(bool)) for start, end, of, spoken in words],
        record_ids=prepared["record_id"].to_pylist(),
    )


class CodeExplainable:
    """See `engine.explain.protocol.Explainable`; `batch` is `Reports`, a target a label's number, or a mask of labels.

    The system's network has `embed(ids)`, embeddings [..., d] of tokens. Unless `logits` is overridden, `network(batch, embeds)`
    gives the logits [records, labels] of each task from the embeddings [W, L, d] of a batch's tokens.
    """

    own_methods: frozenset[str] = frozenset()

    def __init__(self, system: "CodeSystem", task: str) -> None:
        """Probabilities are those at the checkpoint's temperature, without the isotonic curve: erasure measures how far a
        probability falls, which a curve of steps would hide."""
        self.system, self.network, self.config = system, system.network, system.config
        self.name, self.temperature = task, system.calibration(task).temperature
        self.labels, self.multi_label = system.config.task(task).labels, system.config.task(task).multi_label
        self.score_kind = "logit" if self.multi_label else "log_odds"
        self.device = next(self.network.parameters()).device

    def record_ids(self, batch: Reports) -> list[str]:
        return list(batch.record_ids)

    def sizes(self, batch: Reports) -> np.ndarray:
        return np.array([len(ids) for ids in batch.ids], dtype=np.int64)

    def units(self, batch: Reports) -> list[Units]:
        return list(batch.words)

    def named(self, batch: Reports, targets: Tensor) -> list[Target]:
        if self.multi_label:
            chosen = [np.flatnonzero(row) for row in targets.cpu().numpy() > 0]
            return [Target(";".join(self.labels[i] for i in row), "label") for row in chosen]
        return [Target(self.labels[index], "class") for index in targets.tolist()]

    def targets(self, codes: Sequence[str]) -> Tensor:
        """Targets [records] of codes, joined by `;` if the task is multi-label.

        Raises:
            ConfigError: the model does not know a code.
        """
        numbers = [label_numbers(self.name, self.labels, code, self.multi_label) for code in codes]
        if not self.multi_label:
            return torch.tensor([number for (number,) in numbers], dtype=torch.long)
        masks = torch.zeros(len(codes), len(self.labels))
        for row, labels in enumerate(numbers):
            masks[row, labels] = 1.0
        return masks

    @torch.no_grad()
    def predicted(self, batch: Reports) -> Tensor:
        """The model's own answers, as targets."""
        return answers(self.logits(batch), self.multi_label).cpu()

    def take(self, batch: Reports, members: Sequence[int]) -> Reports:
        columns = (batch.ids, batch.pairs, batch.words, batch.record_ids)
        return Reports(*([column[member] for member in members] for column in columns))

    def erase(self, batch: Reports, keep: np.ndarray, how: str = "mask") -> Reports:
        flags = np.split(keep, np.cumsum(self.sizes(batch))[:-1])
        pairs = list(zip(batch.ids, flags, strict=True))
        if how == "mask":
            return replace(batch, ids=[np.where(kept, ids, self.config.special[3]).astype(ids.dtype) for ids, kept in pairs])
        words = [replace(units, of_position=units.of_position[kept]) for units, kept in zip(batch.words, flags, strict=True)]
        return replace(batch, ids=[ids[kept] for ids, kept in pairs], words=words)

    @torch.no_grad()
    def embed(self, batch: Reports) -> Tensor:
        ids = np.concatenate([np.empty(0, np.int64), *batch.ids]).astype(np.int64)
        return self.network.embed(torch.from_numpy(ids).to(self.device)).float()

    @torch.no_grad()
    def blank(self, batch: Reports) -> Tensor:
        positions = int(self.sizes(batch).sum())
        return self.network.embed(torch.tensor(self.config.special[3], device=self.device)).float().expand(positions, -1)

    def score(self, batch: Reports, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        return target_score(self.logits(batch, embeds), targets.to(self.device), self.multi_label)

    def probability(self, batch: Reports, targets: Tensor) -> Tensor:
        return target_probability(self.logits(batch), targets.to(self.device), self.multi_label, self.temperature)

    def holds(self, batch: Reports, targets: Tensor) -> Tensor:
        equal = answers(self.logits(batch), self.multi_label) == targets.to(self.device)
        return equal.all(-1) if self.multi_label else equal

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of the network's `encoder`; a network without one counts as linear in its embeddings."""
        encoder = getattr(self.network, "encoder", None)
        return nullcontext() if encoder is None else relevance_rules(encoder)

    def own(self, method: str, batch: Reports, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def logits(self, batch: Reports, embeds: Tensor | None = None) -> Tensor:
        """The task's logits [records, labels], from the embeddings [positions, d] if given."""
        windows = self.windows(batch)
        return self.network(windows, None if embeds is None else self.inputs(windows, embeds))[self.name]

    def windows(self, batch: Reports) -> Batch:
        """The reports as a batch of the network."""
        cut = {"window": self.config.window, "special": self.config.special}
        return collate(list(range(len(batch))), batch.ids, pairs=batch.pairs, **cut).to(self.device)

    def inputs(self, windows: Batch, embeds: Tensor) -> Tensor:
        """Embeddings [W, L, d] of windows, those of the text replaced by `embeds`."""
        inputs = self.network.embed(windows.ids).detach().clone()
        inputs[windows.text] = embeds.to(inputs.dtype)
        return inputs
