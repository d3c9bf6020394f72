"""The site classifier as a learner: windows sampled per epoch, tokens masked at random, one loss a task.

Masking replaces dropout, which costs six times the step on a CPU, and it makes erasure fair: the model has met reports with any
share of their words missing, so a report with its evidence masked is not foreign to it (Hase et al. 2021).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.batching import token_budget_batches
from engine.models.site_classifier.network import Batch, SiteNetwork
from engine.models.site_classifier.prepare import collate
from engine.records import seed_of
from engine.text.windows import window_bounds


@dataclass(frozen=True)
class LearnConfig:
    """How reports are shown. `windows` a report and epoch; the share of masked tokens of a report is `masking` u^2, u uniform.

    `weights` scale the tasks' losses. `budget` is padded tokens a micro-batch.
    """

    windows: int = 8
    masking: float = 0.8
    smoothing: float = 0.05
    weights: Mapping[str, float] | None = None
    budget: int = 8192
    seed: int = 7


@dataclass(frozen=True)
class Examples:
    """Tokenized examples: ids, tokens, labels [n, tasks] (-1: none; for a multi-label task see `many`), split masks."""

    record_id: list[str]
    ids: list[np.ndarray]
    labels: Mapping[str, np.ndarray]
    train: np.ndarray
    valid: np.ndarray
    pairs: list[np.ndarray | None] | None = None


class SiteLearner:
    """See `engine.training.loop.Learner`."""

    def __init__(
        self,
        network: SiteNetwork,
        examples: Examples,
        config: LearnConfig,
        device: torch.device,
    ) -> None:
        self.network = network.to(device)
        self.examples = examples
        self.config = config
        self.special = network.config.special
        self.device = device
        self.window = network.config.window

    def parameters(self) -> Mapping[str, Tensor]:
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def order(self, epoch: int) -> list[int]:
        members = np.flatnonzero(self.examples.train)
        np.random.default_rng([self.config.seed, epoch]).shuffle(members)
        return members.tolist()

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        for batch, members in self._batches(examples, epoch):
            self._mask(batch, members, epoch)
            logits = self.network(batch).logits
            yield self._terms(logits, members), int(batch.mask.sum())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Accuracy of each task on the held-back examples, from as many windows as in training."""
        right: dict[str, int] = {}
        seen: dict[str, int] = {}
        for batch, members in self._batches(np.flatnonzero(self.examples.valid).tolist(), epoch=0):
            for name, logits in self.network(batch).logits.items():
                gold = torch.from_numpy(self.examples.labels[name][members])
                if gold.ndim > 1:
                    known = gold >= 0
                    right[name] = right.get(name, 0) + int((((logits.cpu() > 0).long() == gold) & known).sum())
                else:
                    known = gold >= 0
                    right[name] = right.get(name, 0) + int(((logits.argmax(-1).cpu() == gold) & known).sum())
                seen[name] = seen.get(name, 0) + int(known.sum())
        return {f"accuracy_{name}": right[name] / max(1, seen[name]) for name in right}

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        chosen = [self._windows(member, epoch) for member in members]
        lengths = [max((stop - start for start, stop in bounds), default=0) + 2 for bounds in chosen]
        for group in token_budget_batches([len(bounds) for bounds in chosen], lengths, self.config.budget):
            rows = [members[index] for index in group]
            yield (
                collate(
                    rows,
                    [self.examples.ids[row] for row in rows],
                    window=self.window,
                    special=self.special,
                    pairs=[self.examples.pairs[row] for row in rows] if self.examples.pairs else None,
                    chosen=[chosen[index] for index in group],
                ).to(self.device),
                rows,
            )

    def _windows(self, member: int, epoch: int) -> list[tuple[int, int]]:
        question = self.examples.pairs[member] if self.examples.pairs else None
        room = self.window if question is None else self.window - len(question) - 1
        bounds = window_bounds(len(self.examples.ids[member]), room)
        if len(bounds) <= self.config.windows:
            return bounds
        seed = seed_of(self.examples.record_id[member], "windows", epoch, self.config.seed)
        picked = np.random.default_rng(seed).choice(len(bounds), self.config.windows, replace=False)
        return [bounds[index] for index in sorted(picked.tolist())]

    def _mask(self, batch: Batch, members: list[int], epoch: int) -> None:
        share, draws = np.empty(len(members)), np.empty(batch.ids.shape, np.float32)
        record = batch.record.cpu().numpy()
        for index, member in enumerate(members):
            rng = np.random.default_rng(seed_of(self.examples.record_id[member], "mask", epoch, self.config.seed))
            share[index] = self.config.masking * rng.random() ** 2
            mine = record == index
            draws[mine] = rng.random((int(mine.sum()), draws.shape[1]), np.float32)
        hidden = torch.from_numpy(draws < share[record][:, None]).to(batch.ids.device) & batch.text
        batch.ids = batch.ids.masked_fill(hidden, self.special[3])

    def _terms(self, logits: Mapping[str, Tensor], members: list[int]) -> dict[str, Tensor]:
        weights = self.config.weights or {}
        terms = {}
        for name, values in logits.items():
            gold = torch.from_numpy(self.examples.labels[name][members]).to(values.device)
            if gold.ndim > 1:
                loss = functional.binary_cross_entropy_with_logits(values, gold.clamp_min(0).float(), reduction="none")
                loss = (loss * (gold >= 0)).mean(-1).sum()
            else:
                loss = functional.cross_entropy(
                    values, gold, ignore_index=-1, reduction="sum", label_smoothing=self.config.smoothing
                )
            terms[name] = weights.get(name, 1.0) * loss
        return terms
