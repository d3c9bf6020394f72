"""The base of learners of entities: all texts in memory, each in windows, with tokens masked at random in place of dropout."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching import micro_batch, token_budget_batches
from engine.models.entities.candidates import Candidate, Decoding, select
from engine.models.entities.examples import Examples
from engine.models.entities.settings import EntityLearning
from engine.models.entities.spans import Window, windows
from engine.models.entities.tuning import exact_figures
from engine.records import seed_of


class EntityLearner:
    """See `engine.training.loop.Learner`. A subclass implements `losses` and `found`. The network has a `config` with `types`,
    `window`, `overlap` and `special`."""

    def __init__(
        self, network: nn.Module, examples: Examples, config: EntityLearning, device: torch.device, decoding: Decoding
    ) -> None:
        self.network = network.to(device)
        self.examples = examples
        self.config = config
        self.device = device
        self.decoding = decoding
        self.types = list(range(len(network.config.types)))

    def found(self, windows: Sequence[Window]) -> Iterable[Candidate]:
        """The candidates in some windows under the decoding."""
        raise NotImplementedError

    def parameters(self) -> Mapping[str, Tensor]:
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def order(self, epoch: int) -> list[int]:
        members = np.flatnonzero(self.examples.train)
        np.random.default_rng([self.config.seed, epoch]).shuffle(members)
        return members.tolist()

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Exact precision, recall and F1 of spans on the validation set, over all types and for each (`f1_<type>`)."""
        members = np.flatnonzero(self.examples.valid).tolist()
        gold = {
            (member, span.first, span.last, span.type)
            for member in members
            for span in self.examples.spans[member]
            if span.type < len(self.types)
        }
        predicted = {
            (span.text, span.first, span.last, span.type)
            for span in self.predict(members)
            if span.type in self.examples.annotated[span.text]
        }
        figures = dict(zip(("precision", "recall", "f1"), exact_figures(gold, predicted), strict=True))
        for number, name in enumerate(self.network.config.types):
            of_type = [{span for span in spans if span[3] == number} for spans in (gold, predicted)]
            if of_type[0] and len(self.types) > 1:
                figures[f"f1_{name}"] = exact_figures(*of_type)[2]
        return figures

    @torch.no_grad()
    def predict(self, members: Sequence[int]) -> list[Candidate]:
        """The spans of texts; `text` of each is the example's number."""
        per_text: dict[int, list[Candidate]] = {}
        for span in self.found([window for member in members for window in self.windows(member)]):
            per_text.setdefault(span.text, []).append(span)
        return [span for text in sorted(per_text) for span in select(per_text[text], self.decoding)]

    def windows(self, member: int) -> list[Window]:
        """All windows of an example."""
        tokens, config = self.examples.tokens[member], self.network.config
        return windows(member, tokens.ids, tokens.word_of_token, config.window, config.overlap)

    def batches(self, windows: Sequence[Window], sequences: Sequence[int], beside: int) -> list[list[int]]:
        """The places of windows in batches of similar length, each window in a number of sequences with some tokens beside it."""
        budget = micro_batch(self.config.budget or 0, self.device.type, on_cpu=1024)
        return token_budget_batches(sequences, [len(window) + beside for window in windows], budget)

    def rng(self, window: Window, purpose: str, epoch: int) -> np.random.Generator:
        """Random numbers for a window that depend on nothing else."""
        name = self.examples.record_id[window.text]
        return np.random.default_rng(seed_of(name, purpose, window.start, epoch, self.config.seed))

    def masked(self, ids: Tensor, windows: Sequence[Window], epoch: int) -> Tensor:
        """The ids [N, L] of windows with some tokens replaced by [MASK]."""
        hidden = np.zeros(tuple(ids.shape), bool)
        for row, window in enumerate(windows):
            rng = self.rng(window, "mask", epoch)
            share = self.config.masking * rng.random() ** 2
            hidden[row, : len(window)] = rng.random(len(window)) < share
        return ids.masked_fill(torch.from_numpy(hidden).to(ids.device), self.network.config.special[3])
