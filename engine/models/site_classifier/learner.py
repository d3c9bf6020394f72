"""The site classifier as a learner: windows sampled per epoch, tokens masked at random, one loss a task.

Samples that are no reports of their own, rationales and complements, count like reports; how many of them an epoch shows for
each report is a setting, and the loss of every kind is told apart, since a short text is an easy one. Instead of samples,
`marking` teaches the same marks as a second question: a linear layer on each token's state says whether it lies in a rationale.

Masking replaces dropout, which costs six times the step on a CPU, and it makes erasure fair: the model has met reports with any
share of their words missing, so a report with its evidence masked is not foreign to it (Hase et al. 2021).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.batching import micro_batch, token_budget_batches
from engine.models.code_learner import Pairs, answers, figures, text_losses
from engine.models.examples import Source
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.network import Pooled, SiteNetwork
from engine.models.tokens import Batch, collate
from engine.records import seed_of
from engine.shuffling import Shuffle
from engine.text.windows import window_bounds

# Parameters of this name are the loop's to train and no part of a checkpoint.
MARKER = "marker"


@dataclass(frozen=True)
class Examples:
    """Tokenized examples: ids, tokens, labels [n, tasks] (-1: none; for a multi-label task see `many`), split masks.

    `kind` says what each is (see `corpus`), `sample` which are no reports of their own. `marked` has for reports with rationales
    a flag for each token. See `Source`: examples that are held whole are one, numbered as they stand.
    """

    record_id: list[str]
    ids: list[np.ndarray]
    labels: Mapping[str, np.ndarray]
    train: np.ndarray
    valid: np.ndarray
    pairs: list[np.ndarray | None] | None = None
    kind: np.ndarray | None = None
    sample: np.ndarray | None = None
    marked: list[np.ndarray | None] | None = None

    @property
    def mixed(self) -> bool:
        return self.sample is not None and bool(self.sample.any())

    def order(self, epoch: int, ratio: float, seed: int) -> Sequence[int]:
        sample = np.zeros_like(self.train) if self.sample is None else self.sample
        reports, samples = np.flatnonzero(self.train & ~sample), np.flatnonzero(self.train & sample)
        order = Shuffle([len(reports)], [len(samples)], ratio, seed, 1).epoch(epoch)
        return np.concatenate([reports, samples])[list(order)].tolist()

    def hold(self, members: Sequence[int], epoch: int) -> tuple["Examples", list[int]]:
        return self, list(members)

    def held_back(self) -> Iterator[tuple["Examples", list[int]]]:
        yield self, np.flatnonzero(self.valid).tolist()

    def close(self) -> None:
        pass


class SiteLearner:
    """See `engine.training.loop.Learner`."""

    def __init__(
        self,
        network: SiteNetwork,
        source: Source,
        config: LearnConfig,
        device: torch.device,
    ) -> None:
        self.network = network.to(device)
        self.source = source
        # Those of the source that are in work.
        self.examples, _ = source.hold([], 0)
        self.config = config
        self.special = network.config.special
        self.device = device
        self.window = network.config.window
        self.marker = torch.nn.Linear(network.encoder.config.hidden_size, 1).to(device) if config.marking else None
        self._told: dict[str, tuple[float, int]] = {}

    def parameters(self) -> Mapping[str, Tensor]:
        own = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        return own | ({f"{MARKER}.{name}": value for name, value in self.marker.named_parameters()} if self.marker else {})

    def order(self, epoch: int) -> Sequence[int]:
        return self.source.order(epoch, self.config.ratio, self.config.seed)

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        """The loss of every task on every kind of sample since the last call, where there are samples beside the reports."""
        found = {name: (total, count) for name, (total, count) in self._told.items()}
        self._told = {}
        return found if self.source.mixed else {}

    def close(self) -> None:
        self.source.close()

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        self.examples, held = self.source.hold(examples, epoch)
        for batch, members in self._batches(held, epoch):
            pooled = self._shown(batch, members, epoch)
            terms = self._terms(pooled.logits, members)
            if self.marker is not None:
                terms["marks"] = self.config.marking * self._marks(batch, pooled.states, members)
            yield terms, int(batch.mask.sum())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The `figures` of the held-back examples, from as many windows as in training."""
        pairs: Pairs = defaultdict(list)
        for some, held in self.source.held_back():
            self.examples = some
            for batch, members in self._batches(held, epoch=0):
                for name, logits in self._shown(batch, members, None).logits.items():
                    pairs[name].append(answers(some.labels[name][members], logits))
        return figures(pairs)

    def _shown(self, batch: Batch, members: list[int], epoch: int | None) -> Pooled:
        """What the network makes of a batch, as it is shown in an epoch, or whole."""
        if epoch is not None:
            hidden = self._hidden(batch, members, epoch)
            batch.ids = batch.ids.masked_fill(hidden, self.special[3])
        return self.network(batch, chunk=self.config.checkpointing)

    @property
    def budget(self) -> int:
        """Padded tokens a micro-batch. On a CPU a step of 32 abstracts in windows of 254 took half as long again at 8,192 as at
        2,048, and 2.7 GB; in windows of 126 the size made no difference."""
        return micro_batch(self.config.budget or 0, self.device.type, on_cpu=2048)

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        chosen = [self._windows(member, epoch) for member in members]
        lengths = [max((stop - start for start, stop in bounds), default=0) + 2 for bounds in chosen]
        for group in token_budget_batches([len(bounds) for bounds in chosen], lengths, self.budget):
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

    def _hidden(self, batch: Batch, members: list[int], epoch: int) -> Tensor:
        """Which text tokens [W, L] an epoch hides: a draw for each token of a report, whatever batch it is shown in."""
        record, position = batch.record.cpu().numpy(), batch.position.cpu().numpy()
        hidden = np.zeros(position.shape, dtype=bool)
        for index, member in enumerate(members):
            rng = np.random.default_rng(seed_of(self.examples.record_id[member], "mask", epoch, self.config.seed))
            share = self.config.masking * rng.random() ** 2
            gone = rng.random(len(self.examples.ids[member]), np.float32) < share
            mine = (record == index)[:, None] & (position >= 0)
            hidden[mine] = gone[position[mine]]
        return torch.from_numpy(hidden).to(batch.ids.device) & batch.text

    def _terms(self, logits: Mapping[str, Tensor], members: list[int]) -> dict[str, Tensor]:
        weights = self.config.weights or {}
        scale = torch.ones(len(members))
        if self.examples.sample is not None:
            scale[torch.from_numpy(self.examples.sample[members])] = self.config.sample_weight
        terms = {}
        for name, values in logits.items():
            gold = torch.from_numpy(self.examples.labels[name][members]).to(values.device)
            loss = text_losses(values, gold, self.config.smoothing)
            known = (gold >= 0).any(-1) if gold.ndim > 1 else gold >= 0
            self._tell(name, loss.detach().cpu().numpy(), known.cpu().numpy(), members)
            terms[name] = weights.get(name, 1.0) * (loss * scale.to(loss.device)).sum()
        return terms

    def _tell(self, name: str, losses: np.ndarray, known: np.ndarray, members: list[int]) -> None:
        if self.examples.kind is not None:
            for kind, value in zip(self.examples.kind[members][known], losses[known], strict=True):
                total, count = self._told.get(f"loss_{name}_{kind}", (0.0, 0))
                self._told[f"loss_{name}_{kind}"] = (total + float(value), count + 1)

    def _marks(self, batch: Batch, states: Tensor, members: list[int]) -> Tensor:
        """Sum over the records that have marks of the mean binary cross-entropy over their tokens."""
        logits = self.marker(states).squeeze(-1)
        total = logits.sum() * 0
        record, position = batch.record.cpu().numpy(), batch.position.cpu().numpy()
        for index, member in enumerate(members):
            flags = self.examples.marked[member] if self.examples.marked else None
            if flags is not None:
                # A batch of cached states lies beside the device, one of windows on it.
                windows = torch.from_numpy(record == index).unsqueeze(-1) & batch.text.bool().cpu()
                gold = torch.from_numpy(flags[position[windows.numpy()]]).to(logits.device)
                total = total + functional.binary_cross_entropy_with_logits(logits[windows.to(logits.device)], gold.float())
        return total
