"""The extractor as a model that every method of `engine.explain` can explain: spans, each in one window under its type's prompt.

The positions of a span are the tokens of its window, then the word pieces of its type's template and the soft vectors. What is
explained is F = s_i + e_j + m_ij, the logits of start, end and match. A tagger has no prompt, and F is the sum of the logits of B
at the first token and of I at the last.

The blank of a token or a template's piece is [MASK], that of a soft vector the mean word embedding. What deep prompts add at
further layers belongs to the soft vector at whose place it enters, and its blank is 0.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from engine.explain.rules import relevance_rules
from engine.models.entities import explainable
from engine.models.entities.candidates import Candidate
from engine.models.entities.explainable import Place, Spans
from engine.models.entities.spans import BEGIN, INSIDE, OUTSIDE
from engine.models.prompt_mrc.decode import window_candidates
from engine.models.prompt_mrc.network import Contexts, Logits, Prompts, collate
from engine.text.units import Beside


@dataclass(frozen=True)
class Inputs(explainable.Inputs):
    """`embeds` [N, L + P, D] are those of the texts and then of the prompts, those of all layers side by side. `soft` [N, L + P]
    flags the soft vectors."""

    batch: Contexts
    prompts: Prompts
    soft: Tensor


class SpanModel(explainable.SpanModel):
    """See `engine.models.entities.explainable`."""

    def span_scores(self, outputs: Logits, batch: Spans, rows: Tensor, first: Tensor, last: Tensor) -> Tensor:
        if outputs.tags is None:
            match = self.network.match(outputs.states, rows, first, last)
            return outputs.start[rows, first] + outputs.end[rows, last] + match
        kind = torch.tensor(batch.types, device=self.device)[rows]
        return outputs.tags[rows, first, kind, BEGIN] + outputs.tags[rows, last, kind, INSIDE]

    def probability(self, batch: Spans, targets: Tensor) -> Tensor:
        """The span's score, as in its row (see `decode`). A tagger's tags need not be those of the span: its first word's
        probability is that of being in a mention, and the other words' that of I."""
        logits, rows = self.outputs(batch), torch.arange(len(batch), device=self.device)
        if logits.tags is not None:
            return self._tagged(logits.tags, batch, targets)
        first, last = targets.to(self.device).unbind(-1)
        match = self.network.match(logits.states, rows, first, last)
        scores = torch.stack([logits.start[rows, first], logits.end[rows, last], match], -1)
        return torch.sigmoid(scores).double().prod(-1) ** (1 / 3)

    def candidates(self, outputs: Logits, batch: Spans) -> Iterator[list[Candidate]]:
        """Those of each span's window under its type's prompt."""
        contexts = collate(batch.windows, self.config.special).to(self.device)
        for row, place in enumerate(batch.places):
            alone = Logits(*(None if each is None else each[row : row + 1] for each in vars(outputs).values()))
            context = Contexts(*(each[row : row + 1] for each in vars(contexts).values()))
            yield window_candidates(self.network, alone, context, [place.window], [place.type], self.decoding)[0]

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of the encoder, and of the head that pairs a start with an end."""
        heads = () if self.config.is_tagger else (self.network.match,)
        return relevance_rules(self.network.encoder, *heads)

    def beside(self, place: Place) -> list[Beside]:
        pieces = self.network.queries[place.type] if self.config.is_hard else []
        words = [Beside("prompt", self.tokenizer.id_to_token(piece)) for piece in pieces]
        return words + [Beside("soft_prompt")] * self.config.soft

    def inputs(self, batch: Spans) -> Inputs:
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
        return Inputs(
            contexts,
            torch.cat([torch.cat(layer, 1) for layer in layers], -1),
            torch.cat([is_token, prompts.hard.bool() | soft], 1),
            prompts,
            torch.cat([torch.zeros_like(is_token), soft], 1),
        )

    def blanks(self, inputs: Inputs) -> Tensor:
        word = self.network.parted.embed(torch.tensor(self.config.special[3], device=self.device)).float()
        blank = torch.where(inputs.soft[inputs.positions].unsqueeze(-1), self._mean, word)
        return torch.nn.functional.pad(blank, (0, inputs.embeds.shape[-1] - blank.shape[-1]))

    @cached_property
    def _mean(self) -> Tensor:
        return self.network.encoder.get_input_embeddings().weight.float().mean(0)

    def outputs_of(self, inputs: Inputs, embeds: Tensor) -> Logits:
        width, rows = inputs.batch.ids.shape[1], torch.arange(len(embeds), device=self.device)
        first, *deep = embeds.split(inputs.prompts.states.shape[-1], -1)
        prompts = replace(inputs.prompts, states=first[:, width:], deep=[layer[:, width:] for layer in deep])
        states = self.network.encode_contexts(inputs.batch, first[:, :width])
        return self.network.score(inputs.batch, states, self.network.encode_prompts(prompts), rows, rows)

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
