"""The extractor offered to every method of `engine.explain`: spans, each in one window and under the prompt of its type.

The positions of a span are the tokens of its window, then the word pieces of its type's template and the soft vectors; special
tokens belong to the model and stay. What is explained is F = s_i + e_j + m_ij, the logits of start, end and match; of a tagger,
which has no prompt, those of B at the first word and of I at the last. The blank of a text's token and of a template's piece is
[MASK], that of a soft vector the mean word embedding; what deep prompts add at further layers belongs to the soft vector at whose
place it stands, and its blank is 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.explanation import Target
from engine.explain.rules import relevance_rules
from engine.models.prompt_mrc.decode import candidates, settle
from engine.models.prompt_mrc.instances import BEGIN, INSIDE, OUTSIDE, Window
from engine.models.prompt_mrc.network import Asked, Contexts, Found, MrcNetwork, collate
from engine.text.units import Beside, Units

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.models.prompt_mrc.config import Decoding


class Place(NamedTuple):
    """Where a span is asked for: its window, the number of its type, and offsets and flags of the words of the whole text."""

    window: Window
    type: int
    word_start: np.ndarray
    word_end: np.ndarray
    word_spoken: np.ndarray


@dataclass(frozen=True)
class Spans:
    """Spans to explain, their units and ids in one order; `kept` [positions] is false where a position is erased."""

    places: Sequence[Place]
    units: Sequence[Units]
    record_ids: Sequence[str]
    kept: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def windows(self) -> list[Window]:
        return [place.window for place in self.places]

    @property
    def types(self) -> list[int]:
        return [place.type for place in self.places]


@dataclass(frozen=True)
class _Inputs:
    """What enters the network: `whole` [N, L + P, D] are the texts' embeddings and then the prompts', of all layers side by side;
    `positions` and `soft` [N, L + P] are flags of those that belong to a unit, and of soft vectors."""

    contexts: Contexts
    prompts: Asked
    whole: Tensor
    positions: Tensor
    soft: Tensor


class SpanModel:
    """See `engine.explain.protocol.SpanExplainable`; a target is the first and the last token of a span in its window [2].

    `names` are those of all types that the network is asked for, its own first.
    """

    score_kind = "logit"
    own_methods: frozenset[str] = frozenset()

    def __init__(self, network: MrcNetwork, decoding: "Decoding", names: Sequence[str], tokenizer: "Tokenizer") -> None:
        self.network = network
        self.config = network.config
        self.decoding = decoding
        self.names = names
        self.tokenizer = tokenizer
        self.device = next(self.network.parameters()).device

    def spans(self, places: Sequence[Place], record_ids: Sequence[str]) -> Spans:
        """Spans as a batch."""
        units = [self._units(place) for place in places]
        return Spans(places, units, record_ids, [np.ones(len(each.of_position), dtype=bool) for each in units])

    def record_ids(self, batch: Spans) -> list[str]:
        return list(batch.record_ids)

    def sizes(self, batch: Spans) -> np.ndarray:
        return np.array([len(kept) for kept in batch.kept], dtype=np.int64)

    def units(self, batch: Spans) -> list[Units]:
        return list(batch.units)

    def named(self, batch: Spans, targets: Tensor) -> list[Target]:
        named = []
        for units, kind, (first, last) in zip(batch.units, batch.types, targets.tolist(), strict=True):
            start, end = units.start[units.of_position[first]], units.end[units.of_position[last]]
            named.append(Target(self.names[kind], "span", int(start), int(end)))
        return named

    def take(self, batch: Spans, members: Sequence[int]) -> Spans:
        columns = (batch.places, batch.units, batch.record_ids, batch.kept)
        return Spans(*([column[member] for member in members] for column in columns))

    def erase(self, batch: Spans, keep: np.ndarray, how: str = "mask") -> Spans:
        if how != "mask":
            raise ContractError("nothing can be taken out of a text whose spans are explained")
        flags = np.split(keep, np.cumsum(self.sizes(batch))[:-1])
        return replace(batch, kept=[old & new for old, new in zip(batch.kept, flags, strict=True)])

    @torch.no_grad()
    def embed(self, batch: Spans) -> Tensor:
        return self._embeds(batch, self._inputs(batch))

    @torch.no_grad()
    def blank(self, batch: Spans) -> Tensor:
        return self._blank(self._inputs(batch))

    def score(self, batch: Spans, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        answers = self._answers(batch, embeds)
        return self._score(answers, batch, torch.arange(len(batch)), *targets.unbind(-1))

    def probability(self, batch: Spans, targets: Tensor) -> Tensor:
        """The span's score as its row has it: the cube root of the three probabilities' product. A tagger's is the geometric mean
        of the first word's probability to be in a span and the mean one of all its words."""
        answers, rows = self._answers(batch), torch.arange(len(batch), device=self.device)
        first, last = targets.to(self.device).unbind(-1)
        if answers.tags is not None:
            return self._tagged(answers.tags, batch, targets)
        match = self.network.match(answers.states, rows, first, last)
        logits = torch.stack([answers.start[rows, first], answers.end[rows, last], match], -1)
        return torch.sigmoid(logits).double().prod(-1) ** (1 / 3)

    def holds(self, batch: Spans, targets: Tensor) -> Tensor:
        """Whether the span is among those that its window gives under its type's prompt."""
        answers, contexts = self._answers(batch), collate(batch.windows, self.config.special).to(self.device)
        held = []
        for row, (place, tokens) in enumerate(zip(batch.places, targets.tolist(), strict=True)):
            one = slice(row, row + 1)
            alone = Found(*(None if each is None else each[one] for each in vars(answers).values()))
            context = Contexts(*(each[one] for each in vars(contexts).values()))
            made, _ = candidates(self.network, alone, context, [place.window], [place.type], self.decoding)
            held.append(tuple(tokens) in {each.tokens for each in settle(made, self.decoding)})
        return torch.tensor(held, dtype=torch.bool)

    @torch.no_grad()
    def shift_margin(self, batch: Spans, targets: Tensor) -> Tensor:
        answers = self._answers(batch)
        own = self._score(answers, batch, torch.arange(len(batch)), *targets.unbind(-1)).double().cpu()
        near = [(row, *span) for row, tokens in enumerate(targets.tolist()) for span in _shifted(batch.windows[row], *tokens)]
        best = torch.full_like(own, float("-inf"))
        if near:
            rows, first, last = torch.tensor(near).unbind(-1)
            best.scatter_reduce_(0, rows, self._score(answers, batch, rows, first, last).double().cpu(), "amax")
        return torch.where(best.isinf(), torch.nan, own - best)

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of the encoder, and of the head that pairs a start with an end."""
        heads = () if self.config.is_tagger else (self.network.match,)
        return relevance_rules(self.network.encoder, *heads)

    def own(self, method: str, batch: Spans, targets: Tensor) -> Tensor:
        raise ContractError(f"an extractor has no method '{method}' of its own")

    def _units(self, place: Place) -> Units:
        words = place.window.word - place.window.word[0]
        first, stop = int(place.window.word[0]), int(place.window.word[-1]) + 1
        pieces = self.network.queries[place.type] if self.config.is_hard else []
        beside = [Beside("prompt", self.tokenizer.id_to_token(piece)) for piece in pieces]
        beside += [Beside("soft_prompt")] * self.config.soft
        return Units(
            "word",
            place.word_start[first:stop],
            place.word_end[first:stop],
            np.concatenate([words, stop - first + np.arange(len(beside))]),
            place.word_spoken[first:stop].astype(bool),
            tuple(beside),
        )

    def _inputs(self, batch: Spans) -> _Inputs:
        contexts = collate(batch.windows, self.config.special).to(self.device)
        types, rows = np.unique(batch.types, return_inverse=True)
        asked, row = self.network.prompt_embeds(types.tolist()), torch.from_numpy(rows).to(self.device)
        deep = [each[row] for each in asked.deep]
        prompts = Asked(asked.states[row], asked.mask[row], asked.hard[row], asked.soft[row], deep)
        texts = self.network.parted.embed(contexts.ids)
        length = torch.tensor([len(window) for window in batch.windows], device=self.device).unsqueeze(-1)
        inside = torch.arange(texts.shape[1], device=self.device) < length
        soft = prompts.soft.bool()
        layers = [(texts, prompts.states), *((torch.zeros_like(texts), each) for each in deep)]
        return _Inputs(
            contexts,
            prompts,
            torch.cat([torch.cat(each, 1) for each in layers], -1),
            torch.cat([inside, prompts.hard.bool() | soft], 1),
            torch.cat([torch.zeros_like(inside), soft], 1),
        )

    def _embeds(self, batch: Spans, inputs: _Inputs) -> Tensor:
        own, kept = inputs.whole[inputs.positions].float(), np.concatenate([np.empty(0, bool), *batch.kept])
        if kept.all():
            return own
        return torch.where(torch.from_numpy(kept).to(self.device).unsqueeze(-1), own, self._blank(inputs))

    def _blank(self, inputs: _Inputs) -> Tensor:
        word = self.network.parted.embed(torch.tensor(self.config.special[3], device=self.device)).float()
        blank = torch.where(inputs.soft[inputs.positions].unsqueeze(-1), self._mean, word)
        return torch.nn.functional.pad(blank, (0, inputs.whole.shape[-1] - blank.shape[-1]))

    @cached_property
    def _mean(self) -> Tensor:
        return self.network.encoder.get_input_embeddings().weight.float().mean(0)

    def _answers(self, batch: Spans, embeds: Tensor | None = None) -> Found:
        with torch.no_grad():
            inputs = self._inputs(batch)
            embeds = self._embeds(batch, inputs) if embeds is None else embeds
        width = inputs.contexts.ids.shape[1]
        whole = inputs.whole.clone()
        whole[inputs.positions] = embeds.to(whole.dtype)
        first, *deep = whole.split(inputs.prompts.states.shape[-1], -1)
        prompts = replace(inputs.prompts, states=first[:, width:], deep=[each[:, width:] for each in deep])
        rows = torch.arange(len(batch), device=self.device)
        read = self.network.read(inputs.contexts, first[:, :width])
        return self.network.answer(inputs.contexts, read, self.network.encoded(prompts), rows, rows)

    def _score(self, answers: Found, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """F of spans from token `first` to `last` in rows of a batch, all [n]."""
        rows, first, last = (each.to(self.device) for each in (rows, first, last))
        if answers.tags is None:
            return answers.start[rows, first] + answers.end[rows, last] + self.network.match(answers.states, rows, first, last)
        kind = torch.tensor(batch.types, device=self.device)[rows]
        return answers.tags[rows, first, kind, BEGIN] + answers.tags[rows, last, kind, INSIDE]

    def _tagged(self, tags: Tensor, batch: Spans, targets: Tensor) -> Tensor:
        logits = tags.float().clone()
        logits[..., OUTSIDE] -= self.decoding.outside
        prob = logits.softmax(-1).double()
        values = []
        for row, (place, (first, last)) in enumerate(zip(batch.places, targets.tolist(), strict=True)):
            words = np.flatnonzero(place.window.starts[first : last + 1]) + first
            begin, inner = prob[row, first, place.type, BEGIN:].amax(), prob[row, words[1:], place.type, INSIDE]
            values.append((begin * (begin + inner.sum()) / len(words)).sqrt())
        return torch.stack(values)


def _shifted(window: Window, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Spans of a window whose start or end lies a word further out or in than the one from token `first` to `last`."""
    starts, ends = np.flatnonzero(window.starts), np.flatnonzero(window.ends)
    begin, stop = int(np.searchsorted(starts, first)), int(np.searchsorted(ends, last))
    yield from ((int(starts[at]), last) for at in (begin - 1, begin + 1) if 0 <= at < len(starts) and starts[at] <= last)
    yield from ((first, int(ends[at])) for at in (stop - 1, stop + 1) if 0 <= at < len(ends) and ends[at] >= first)
