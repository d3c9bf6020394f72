"""The extractor as a model that every method of `engine.explain` can explain: spans, each in one window under its type's prompt.

The positions of a span are the tokens of its window, then the word pieces of its type's template and the soft vectors; special
tokens are no positions and are never erased. What is explained is F = s_i + e_j + m_ij, the logits of start, end and match. A
tagger has no prompt, and F is the sum of the logits of B at the first token and of I at the last.

The blank of a token or a template's piece is [MASK], that of a soft vector the mean word embedding. What deep prompts add at
further layers belongs to the soft vector at whose place it enters, and its blank is 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.explain import explain
from engine.explain.explanation import NOT_FINITE, Target, evidence_rows, top_spans
from engine.explain.rules import relevance_rules
from engine.explain.settings import Settings
from engine.models.prompt_mrc.decode import select, window_candidates
from engine.models.prompt_mrc.instances import BEGIN, INSIDE, OUTSIDE, Window
from engine.models.prompt_mrc.network import Contexts, Logits, MrcNetwork, Prompts, collate
from engine.text.units import Beside, Units

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.models.prompt_mrc.config import Decoding

# The columns of shares, by the kind of units that they are of.
SHARES = {"word": "context_share", "prompt": "hard_share", "soft_prompt": "soft_share"}


class Place(NamedTuple):
    """Where a span lies: its window, the number of its type, and offsets and flags of the words of the whole text."""

    window: Window
    type: int
    word_start: np.ndarray
    word_end: np.ndarray
    word_spoken: np.ndarray


@dataclass(frozen=True)
class Spans:
    """Spans to explain, with their units and ids in the same order; `kept` [positions] is false where a position is erased."""

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
    """The network's inputs: `embeds` [N, L + P, D] of the texts and then of the prompts, those of all layers side by side;
    `positions` and `soft` [N, L + P] are flags of what belongs to a position, and of soft vectors."""

    contexts: Contexts
    prompts: Prompts
    embeds: Tensor
    positions: Tensor
    soft: Tensor


class SpanModel:
    """See `engine.explain.protocol.SpanExplainable`. A target [2] is the first and the last token of a span in its window.

    `names` are those of all types by number, including new ones of a run.
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
        return Spans(*([column[member] for member in members] for column in vars(batch).values()))

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
        return self._score(self._logits(batch, embeds), batch, torch.arange(len(batch)), *targets.unbind(-1))

    def probability(self, batch: Spans, targets: Tensor) -> Tensor:
        """The span's score, as in its row (see `decode`). A tagger's tags need not be those of the span: its first word's
        probability is that of being in a mention, and the other words' that of I."""
        logits, rows = self._logits(batch), torch.arange(len(batch), device=self.device)
        if logits.tags is not None:
            return self._tagged(logits.tags, batch, targets)
        first, last = targets.to(self.device).unbind(-1)
        match = self.network.match(logits.states, rows, first, last)
        scores = torch.stack([logits.start[rows, first], logits.end[rows, last], match], -1)
        return torch.sigmoid(scores).double().prod(-1) ** (1 / 3)

    def holds(self, batch: Spans, targets: Tensor) -> Tensor:
        """Whether the span is among those that its window gives under its type's prompt."""
        logits, contexts = self._logits(batch), collate(batch.windows, self.config.special).to(self.device)
        held = []
        for row, (place, tokens) in enumerate(zip(batch.places, targets.tolist(), strict=True)):
            alone = Logits(*(None if each is None else each[row : row + 1] for each in vars(logits).values()))
            context = Contexts(*(each[row : row + 1] for each in vars(contexts).values()))
            spans, _ = window_candidates(self.network, alone, context, [place.window], [place.type], self.decoding)
            held.append(tuple(tokens) in {span.tokens for span in select(spans, self.decoding)})
        return torch.tensor(held, dtype=torch.bool)

    @torch.no_grad()
    def shift_margin(self, batch: Spans, targets: Tensor) -> Tensor:
        logits = self._logits(batch)
        own = self._score(logits, batch, torch.arange(len(batch)), *targets.unbind(-1)).double().cpu()
        near = [(row, *span) for row, tokens in enumerate(targets.tolist()) for span in _shifted(batch.windows[row], *tokens)]
        best = torch.full_like(own, float("-inf"))
        if near:
            rows, first, last = torch.tensor(near).unbind(-1)
            best.scatter_reduce_(0, rows, self._score(logits, batch, rows, first, last).double().cpu(), "amax")
        return torch.where(best.isinf(), torch.nan, own - best)

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of the encoder, and of the head that pairs a start with an end."""
        heads = () if self.config.is_tagger else (self.network.match,)
        return relevance_rules(self.network.encoder, *heads)

    def own(self, method: str, batch: Spans, targets: Tensor) -> Tensor:
        raise ContractError(f"an extractor has no method '{method}' of its own")

    def _units(self, place: Place) -> Units:
        first, stop = int(place.window.word[0]), int(place.window.word[-1]) + 1
        pieces = self.network.queries[place.type] if self.config.is_hard else []
        beside = [Beside("prompt", self.tokenizer.id_to_token(piece)) for piece in pieces]
        beside += [Beside("soft_prompt")] * self.config.soft
        return Units(
            "word",
            place.word_start[first:stop],
            place.word_end[first:stop],
            np.concatenate([place.window.word - first, stop - first + np.arange(len(beside))]),
            place.word_spoken[first:stop].astype(bool),
            tuple(beside),
        )

    def _inputs(self, batch: Spans) -> _Inputs:
        contexts = collate(batch.windows, self.config.special).to(self.device)
        types, rows = np.unique(batch.types, return_inverse=True)
        per_type, row = self.network.embed_prompts(types.tolist()), torch.from_numpy(rows).to(self.device)
        flags = (per_type.mask[row], per_type.hard[row], per_type.soft[row])
        prompts = Prompts(per_type.states[row], *flags, [vectors[row] for vectors in per_type.deep])
        texts = self.network.parted.embed(contexts.ids)
        lengths = torch.tensor([len(window) for window in batch.windows], device=self.device).unsqueeze(-1)
        is_token = torch.arange(texts.shape[1], device=self.device) < lengths
        soft = prompts.soft.bool()
        layers = [(texts, prompts.states), *((torch.zeros_like(texts), vectors) for vectors in prompts.deep)]
        return _Inputs(
            contexts,
            prompts,
            torch.cat([torch.cat(layer, 1) for layer in layers], -1),
            torch.cat([is_token, prompts.hard.bool() | soft], 1),
            torch.cat([torch.zeros_like(is_token), soft], 1),
        )

    def _embeds(self, batch: Spans, inputs: _Inputs) -> Tensor:
        embeds, kept = inputs.embeds[inputs.positions].float(), np.concatenate([np.empty(0, bool), *batch.kept])
        if kept.all():
            return embeds
        return torch.where(torch.from_numpy(kept).to(self.device).unsqueeze(-1), embeds, self._blank(inputs))

    def _blank(self, inputs: _Inputs) -> Tensor:
        word = self.network.parted.embed(torch.tensor(self.config.special[3], device=self.device)).float()
        blank = torch.where(inputs.soft[inputs.positions].unsqueeze(-1), self._mean, word)
        return torch.nn.functional.pad(blank, (0, inputs.embeds.shape[-1] - blank.shape[-1]))

    @cached_property
    def _mean(self) -> Tensor:
        return self.network.encoder.get_input_embeddings().weight.float().mean(0)

    def _logits(self, batch: Spans, embeds: Tensor | None = None) -> Logits:
        """The network's logits, with other embeddings of the positions if they are given."""
        with torch.no_grad():
            inputs = self._inputs(batch)
            embeds = self._embeds(batch, inputs) if embeds is None else embeds
        width, whole = inputs.contexts.ids.shape[1], inputs.embeds.clone()
        whole[inputs.positions] = embeds.to(whole.dtype)
        first, *deep = whole.split(inputs.prompts.states.shape[-1], -1)
        prompts = replace(inputs.prompts, states=first[:, width:], deep=[layer[:, width:] for layer in deep])
        rows = torch.arange(len(batch), device=self.device)
        states = self.network.encode_contexts(inputs.contexts, first[:, :width])
        return self.network.score(inputs.contexts, states, self.network.encode_prompts(prompts), rows, rows)

    def _score(self, logits: Logits, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """F [n] of spans from token `first` to `last` [n] in `rows` [n] of a batch."""
        rows, first, last = (each.to(self.device) for each in (rows, first, last))
        if logits.tags is None:
            return logits.start[rows, first] + logits.end[rows, last] + self.network.match(logits.states, rows, first, last)
        kind = torch.tensor(batch.types, device=self.device)[rows]
        return logits.tags[rows, first, kind, BEGIN] + logits.tags[rows, last, kind, INSIDE]

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
    """Spans of a window that differ from the one from token `first` to `last` by one word more or less at the start or end."""
    starts, ends = np.flatnonzero(window.starts), np.flatnonzero(window.ends)
    begin, stop = int(np.searchsorted(starts, first)), int(np.searchsorted(ends, last))
    yield from ((int(starts[at]), last) for at in (begin - 1, begin + 1) if 0 <= at < len(starts) and starts[at] <= last)
    yield from ((first, int(ends[at])) for at in (stop - 1, stop + 1) if 0 <= at < len(ends) and ends[at] >= first)


def evidence(
    model: SpanModel, places: Sequence[Place], tokens: Sequence[tuple[int, int]], method: str, spans: int
) -> list[dict[str, Any]]:
    """The columns of each entity that explain it by a method: `evidence`, its `spans` strongest runs of words, and
    `context_share`, `hard_share` and `soft_share`, how much of all units' absolute scores text, template and soft prompt have.

    Args:
        places, tokens: of the entities, and their first and last token there. All are explained in one pass.
    Raises:
        ValueError: a score is not finite.
    """
    batch = model.spans(places, [""] * len(places))
    settings = Settings(tokens_per_pass=max(1, int(model.sizes(batch).sum())), residual=False)
    rows = []
    explanations = explain(model, batch, torch.tensor(tokens), method, settings)
    for explanation, units in zip(explanations, batch.units, strict=True):
        if explanation.status == NOT_FINITE:
            raise ValueError("a score is not finite")
        shares = {column: explanation.shares.get(kind, 0.0) for kind, column in SHARES.items()}
        runs = evidence_rows(explanation.of_text, top_spans(explanation, spans, units.spoken))
        rows.append({"evidence": [run | {"weight": run["weight"] * shares["context_share"]} for run in runs], **shares})
    return rows
