"""The site classifier as a learner: an epoch draws windows of each report and masks tokens at random; each task has a loss.

Rationales and complements, the samples made from highlights, are examples like reports. `ratio` sets their number per report in
an epoch. Their losses are reported separately, since short texts are easy. `marking` uses the highlights in another way: a linear
layer predicts from each token's state whether the token was highlighted.

Masking replaces dropout, with which a step on a CPU takes six times as long. It also makes erasure a fair test: the model has
seen reports with any share of their words missing, so a report whose evidence is masked is nothing new to it (Hase et al. 2021).
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

# Parameters with this prefix are trained, but do not belong to the checkpoint.
MARKER = "marker"


@dataclass(frozen=True)
class Examples:
    """Tokenized texts. As a `Source`, they are all in memory at once.

    `ids` has the tokens of each text. `labels` has an array by task, [n] or for a multi-label task [n, labels], with -1 for an
    unknown label. `train` and `valid` [n] say which texts are in the split. `kind` [n] is the kind of each text (see `corpus`),
    `sample` [n] says which texts are samples made from highlights, and `marked` has a flag for each token of a report with
    highlights.
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
        # The examples of the source that are in memory.
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
        """Sum and number of the losses of each task on each kind of text since the last call; empty without samples."""
        losses, self._losses = self._losses, {}
        return losses if self.source.mixed else {}

    def close(self) -> None:
        self.source.close()

    def losses(self, examples: list[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        self.examples, positions = self.source.hold(examples, epoch)
        for batch, members in self._batches(positions, epoch):
            pooled = self._forward(batch, members, epoch)
            terms = self._task_losses(pooled.logits, members)
            if self.marker is not None:
                terms["marks"] = self.config.marking * self._marking_loss(batch, pooled.states, members)
            yield terms, int(batch.mask.sum())

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The `figures` of the valid split, with as many windows per report as in training."""
        pairs: Pairs = defaultdict(list)
        for examples, positions in self.source.held_back():
            self.examples = examples
            for batch, members in self._batches(positions, epoch=0):
                for name, logits in self._forward(batch, members, None).logits.items():
                    pairs[name].append(answers(examples.labels[name][members], logits))
        return figures(pairs)

    def _forward(self, batch: Batch, members: list[int], epoch: int | None) -> Pooled:
        """The network's output for a batch whose tokens are masked as the epoch demands; without an epoch nothing is masked."""
        if epoch is not None:
            batch.ids = batch.ids.masked_fill(self._masked(batch, members, epoch), self.special[3])
        return self.network(batch, chunk=self.config.checkpointing)

    @property
    def budget(self) -> int:
        """Padded tokens per micro-batch. On a CPU, a step of 32 abstracts in windows of 254 tokens took 1.5 times as long with
        8,192 as with 2,048, and 2.7 GB; in windows of 126 the size made no difference."""
        return micro_batch(self.config.budget or 0, self.device.type, on_cpu=2048)

    def _batches(self, members: list[int], epoch: int) -> Iterator[tuple[Batch, list[int]]]:
        """Micro-batches of examples of similar length, each with the numbers of its examples."""
        windows = [self._windows(member, epoch) for member in members]
        lengths = [max((stop - start for start, stop in bounds), default=0) + 2 for bounds in windows]
        for group in token_budget_batches([len(bounds) for bounds in windows], lengths, self.budget):
            rows = [members[index] for index in group]
            batch = collate(
                rows,
                [self.examples.ids[row] for row in rows],
                window=self.window,
                special=self.special,
                pairs=[self.examples.pairs[row] for row in rows] if self.examples.pairs else None,
                chosen=[windows[index] for index in group],
            )
            yield batch.to(self.device), rows

    def _windows(self, member: int, epoch: int) -> list[tuple[int, int]]:
        """The windows of an example in an epoch, as token ranges."""
        pair = self.examples.pairs[member] if self.examples.pairs else None
        bounds = window_bounds(len(self.examples.ids[member]), room(self.window, pair))
        if len(bounds) <= self.config.windows:
            return bounds
        seed = seed_of(self.examples.record_id[member], "windows", epoch, self.config.seed)
        drawn = np.random.default_rng(seed).choice(len(bounds), self.config.windows, replace=False)
        return [bounds[index] for index in sorted(drawn.tolist())]

    def _masked(self, batch: Batch, members: list[int], epoch: int) -> Tensor:
        """Which text tokens [W, L] an epoch masks. A token's draw depends on its report, not on the batch."""
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
        """The mean binary cross-entropy of a report's tokens, summed over the reports with highlights."""
        logits = self.marker(states).squeeze(-1)
        total = logits.sum() * 0
        record, position = batch.record.cpu().numpy(), batch.position.cpu().numpy()
        for index, member in enumerate(members):
            marked = self.examples.marked[member] if self.examples.marked else None
            if marked is not None:
                # A batch of stored states is in main memory, a batch of windows on the device.
                tokens = torch.from_numpy(record == index).unsqueeze(-1) & batch.text.bool().cpu()
                gold = torch.from_numpy(marked[position[tokens.numpy()]]).to(logits.device)
                total = total + functional.binary_cross_entropy_with_logits(logits[tokens.to(logits.device)], gold.float())
        return total
