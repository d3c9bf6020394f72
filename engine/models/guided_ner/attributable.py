"""The tagger as a model that every method of `engine.explain` can explain; F is the log-odds of a span, see `network`.

The method `global` is the tagger's own: a token's score is the global table's value for it and the span's type, which falls off
with the distance from the span in words, exp(-distance / 8). It looks at the training texts as a whole and not at this one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.models.entities import explainable
from engine.models.entities.candidates import Candidate
from engine.models.entities.explainable import Spans
from engine.models.guided_ner.config import GLOBAL, Decoding
from engine.models.guided_ner.decode import by_window
from engine.models.guided_ner.network import Words, log_odds
from engine.models.guided_ner.vocabulary import Vocabulary

if TYPE_CHECKING:
    from engine.models.guided_ner.network import Network

_FALL = 8.0


class SpanModel(explainable.SpanModel):
    """See `engine.models.entities.explainable`."""

    score_kind = "log_odds"
    own_methods = frozenset({GLOBAL})
    fuse = ("gradient_x_input", GLOBAL)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.system.vocabulary

    def log_probability(self, outputs: Tensor, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [n] of spans between two tokens, and how many words they have."""
        words = Words(batch.windows, self.device)
        first, last = words.number(rows, first), words.number(rows, last)
        kinds = torch.tensor(batch.types, device=self.device)[rows]
        return self.network.spans(outputs.float(), words, rows, first, last, kinds), last - first + 1

    def span_scores(self, outputs: Tensor, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        return log_odds(self.log_probability(outputs, batch, rows, first, last)[0])

    @torch.no_grad()
    def probability(self, batch: Spans, targets: Tensor) -> Tensor:
        rows, (first, last) = torch.arange(len(batch), device=self.device), targets.to(self.device).unbind(-1)
        values, words = self.log_probability(self.outputs(batch), batch, rows, first, last)
        return (values.double() / words).exp()

    def own(self, method: str, batch: Spans, targets: Tensor) -> Tensor:
        rows = []
        for place, kept, (first, last) in zip(batch.places, batch.kept, targets.tolist(), strict=True):
            words = place.window.word
            distance = np.maximum(0, np.maximum(words[first] - words, words - words[last]))
            ids = np.where(kept, place.window.ids, self.config.special[3])
            values = self.network.glob[torch.from_numpy(ids.astype(np.int64)).to(self.device), place.type]
            rows.append(values * torch.from_numpy(np.exp(-distance / _FALL)).to(values))
        return torch.cat(rows).detach()

    def candidates(self, outputs: Tensor, batch: Spans) -> Iterator[list[Candidate]]:
        yield from by_window(self.network, batch.windows, outputs, self.system.types, self.decoding)

    def spared(self, batch: Spans, targets: Tensor) -> list[np.ndarray]:
        """The units of each span itself, and those that count or deny."""
        flags = []
        for place, units, (first, last) in zip(batch.places, batch.units, targets.tolist(), strict=True):
            held = self.vocabulary.spared[place.window.ids]
            held[first : last + 1] = True
            flags.append(np.bincount(units.of_position, held, len(units)) > 0)
        return flags

    def variants(self, token: int, rng: np.random.Generator) -> int:
        """Another token of the same class."""
        return self.vocabulary.other(token, rng)


class Live:
    """A network in training, as far as `SpanModel` needs a system."""

    def __init__(self, network: "Network", vocabulary: Vocabulary) -> None:
        self.network, self.config, self.vocabulary = network, network.config, vocabulary
        self.names, self.types = self.config.types, list(range(len(self.config.types)))
        self.decoding, self.tokenizer = Decoding(), None
