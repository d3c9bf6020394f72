"""The site classifier as a learner: an epoch draws windows of each report and masks tokens at random; one loss a task.

Samples made from highlights, rationales and complements, are examples like reports. A setting says how many of them an epoch has
for each report, and the loss of each kind is reported apart, since a short text is an easy one. `marking` uses the same
highlights otherwise: a linear layer on each token's state says whether the token was highlighted.

Masking replaces dropout, which makes a step on a CPU six times as long, and it makes erasure fair: the model has met reports with
any share of their words missing, so a report with its evidence masked is not foreign to it (Hase et al. 2021).
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
from engine.models.tokens import Batch, collate, room
from engine.records import seed_of
from engine.shuffling import Shuffle
from engine.text.windows import window_bounds

# Parameters under this prefix are trained but are no part of a checkpoint.
MARKER = "marker"


@dataclass(frozen=True)
class Examples:
    """Tokenized texts: token ids, labels by task [n], or [n, labels] of a multi-label task, with -1 for unknown, and the masks of
    the splits [n].

    `kind` is that of each text (see `corpus`), `sample` says which are samples made from highlights, and `marked` has a flag for
    each token of a report with highlights. Examples that are held whole are their own `Source`.
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

    def __init__(self, network: SiteNetwork, source: Source, config: LearnConfig, device: torch.device) -> None:
        self.network, self.source, self.config, self.device = network.to(device), source, config, device
        # The part of the source that is in memory.
        self.examples, _ = source.hold([], 0)
        self.special, self.window = network.config.special, network.config.window
        self.marker = torch.nn.Linear(network.encoder.config.hidden_size, 1).to(device) if config.marking else None
        # Sum and number of losses by task and kind.
        self._losses: dict[str, tuple[float, int]] = {}

    def parameters(self) -> Mapping[str, Tensor]:
        trained = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        return trained | ({f"{MARKER}.{name}": value for name, value in self.marker.named_parameters()} if self.marker else {})

    def order(self, epoch: int) -> Sequence[int]:
        return self.source.order(epoch, self.config.ratio, self.config.seed)

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        """Sum and number of losses of each task on each kind of text since the last call, where there are samples."""
        losses, self._losses = self._losses, {}
        return losses if self.source.mixed else {}

    def close(self) -> None:
        self.source.close()

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        self.examples, held = self.source.hold(examples, epoch)
        for batch, members in self._batches(held, epoch):
            pooled = self._forward(batch, members, epoch)
            terms = self._task_losses(pooled.logits, members)
            if self.marker is not None:
                terms["marks"] = self.config.marking * self._marking_loss(batch, pooled.states, members)
            yield terms, int(batch.mask.sum())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The `figures` of the valid split, from as many windows a report as in training."""
        pairs: Pairs = defaultdict(list)
        for examples, held in self.source.held_back():
            self.examples = examples
            for batch, members in self._batches(held, epoch=0):
                for name, logits in self._forward(batch, members, None).logits.items():
                    pairs[name].append(answers(examples.labels[name][members], logits))
        return figures(pairs)

    def _forward(self, batch: Batch, members: list[int], epoch: int | None) -> Pooled:
        """The network's output, with the tokens masked that this epoch masks; without an epoch none are."""
        if epoch is not None:
            batch.ids = batch.ids.masked_fill(self._masked(batch, members, epoch), self.special[3])
        return self.network(batch, chunk=self.config.checkpointing)

    @property
    def budget(self) -> int:
        """Padded tokens a micro-batch. On a CPU a step of 32 abstracts in windows of 254 took half as long again at 8,192 as at
        2,048, and 2.7 GB; in windows of 126 the size made no difference."""
        return micro_batch(self.config.budget or 0, self.device.type, on_cpu=2048)

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        """The examples in micro-batches, those of like length together, each with the numbers of its examples."""
        chosen = [self._windows(member, epoch) for member in members]
        lengths = [max((stop - start for start, stop in bounds), default=0) + 2 for bounds in chosen]
        for group in token_budget_batches([len(bounds) for bounds in chosen], lengths, self.budget):
            rows = [members[index] for index in group]
            batch = collate(
                rows,
                [self.examples.ids[row] for row in rows],
                window=self.window,
                special=self.special,
                pairs=[self.examples.pairs[row] for row in rows] if self.examples.pairs else None,
                chosen=[chosen[index] for index in group],
            )
            yield batch.to(self.device), rows

    def _windows(self, member: int, epoch: int) -> list[tuple[int, int]]:
        """The windows of an example that an epoch shows, as token ranges."""
        pair = self.examples.pairs[member] if self.examples.pairs else None
        bounds = window_bounds(len(self.examples.ids[member]), room(self.window, pair))
        if len(bounds) <= self.config.windows:
            return bounds
        seed = seed_of(self.examples.record_id[member], "windows", epoch, self.config.seed)
        drawn = np.random.default_rng(seed).choice(len(bounds), self.config.windows, replace=False)
        return [bounds[index] for index in sorted(drawn.tolist())]

    def _masked(self, batch: Batch, members: list[int], epoch: int) -> Tensor:
        """Which text tokens [W, L] an epoch masks: one draw for each token of a report, whatever batch it stands in."""
        record, position = batch.record.cpu().numpy(), batch.position.cpu().numpy()
        masked = np.zeros(position.shape, dtype=bool)
        for index, member in enumerate(members):
            rng = np.random.default_rng(seed_of(self.examples.record_id[member], "mask", epoch, self.config.seed))
            share = self.config.masking * rng.random() ** 2
            drawn = rng.random(len(self.examples.ids[member]), np.float32) < share
            tokens = (record == index)[:, None] & (position >= 0)
            masked[tokens] = drawn[position[tokens]]
        return torch.from_numpy(masked).to(batch.ids.device) & batch.text

    def _task_losses(self, logits: Mapping[str, Tensor], members: list[int]) -> dict[str, Tensor]:
        scale = torch.ones(len(members))
        if self.examples.sample is not None:
            scale[torch.from_numpy(self.examples.sample[members])] = self.config.sample_weight
        terms = {}
        for name, values in logits.items():
            gold = torch.from_numpy(self.examples.labels[name][members]).to(values.device)
            loss = text_losses(values, gold, self.config.smoothing)
            known = (gold >= 0).any(-1) if gold.ndim > 1 else gold >= 0
            self._count(name, loss.detach().cpu().numpy(), known.cpu().numpy(), members)
            terms[name] = (self.config.weights or {}).get(name, 1.0) * (loss * scale.to(loss.device)).sum()
        return terms

    def _count(self, task: str, losses: np.ndarray, known: np.ndarray, members: list[int]) -> None:
        if self.examples.kind is not None:
            for kind, value in zip(self.examples.kind[members][known], losses[known], strict=True):
                total, count = self._losses.get(f"loss_{task}_{kind}", (0.0, 0))
                self._losses[f"loss_{task}_{kind}"] = (total + float(value), count + 1)

    def _marking_loss(self, batch: Batch, states: Tensor, members: list[int]) -> Tensor:
        """Over the reports with highlights the sum of the mean binary cross-entropy of their tokens."""
        logits = self.marker(states).squeeze(-1)
        total = logits.sum() * 0
        record, position = batch.record.cpu().numpy(), batch.position.cpu().numpy()
        for index, member in enumerate(members):
            marked = self.examples.marked[member] if self.examples.marked else None
            if marked is not None:
                # A batch of stored states is in main memory, one of windows on the device.
                tokens = torch.from_numpy(record == index).unsqueeze(-1) & batch.text.bool().cpu()
                gold = torch.from_numpy(marked[position[tokens.numpy()]]).to(logits.device)
                total = total + functional.binary_cross_entropy_with_logits(logits[tokens.to(logits.device)], gold.float())
        return total
