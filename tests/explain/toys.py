"""Models small enough to work out by hand, offered to the methods as any model is."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from engine.explain.explanation import Target
from engine.explain.rules import relevance_rules
from engine.text.units import Beside, Units

MASK = 0


@dataclass(frozen=True)
class Docs:
    """Texts as token ids; each token is a word of four letters and a blank unless `words` says otherwise."""

    ids: Sequence[np.ndarray]
    names: Sequence[str]
    words: Sequence[Units]


def complete(explanation):
    """Whether the residual is within 5 % of what there is to explain."""
    return abs(explanation.residual) <= 0.05 * abs(explanation.target_score - explanation.blank_score)


def docs(*ids, names=None, words=None):
    arrays = [np.asarray(row, dtype=np.int64) for row in ids]
    units = [Units("word", 5 * np.arange(len(a)), 5 * np.arange(len(a)) + 4, np.arange(len(a))) for a in arrays]
    return Docs(arrays, names or [f"d{i}" for i in range(len(arrays))], words or units)


class Toy:
    """What all toys share; a toy says `embedding` [vocabulary, d] and `logits(rows of embeddings, targets)`."""

    score_kind = "logit"
    own_methods = frozenset({"uniform"})

    def record_ids(self, batch):
        return list(batch.names)

    def sizes(self, batch):
        return np.array([len(row) for row in batch.ids], dtype=np.int64)

    def units(self, batch):
        return list(batch.words)

    def named(self, batch, targets):
        return [Target(f"label {int(value)}") for value in targets]

    def take(self, batch, members):
        return Docs(*([column[m] for m in members] for column in (batch.ids, batch.names, batch.words)))

    def erase(self, batch, keep, how="mask"):
        flags = np.split(keep, np.cumsum(self.sizes(batch))[:-1])
        if how == "mask":
            return replace(batch, ids=[np.where(kept, row, MASK) for row, kept in zip(batch.ids, flags, strict=True)])
        return replace(batch, ids=[row[kept] for row, kept in zip(batch.ids, flags, strict=True)])

    def embed(self, batch):
        return self.embedding[torch.from_numpy(np.concatenate([np.empty(0, np.int64), *batch.ids]))]

    def blank(self, batch):
        return self.embedding[MASK].expand(int(self.sizes(batch).sum()), -1)

    def score(self, batch, targets, *, embeds=None):
        embeds = self.embed(batch) if embeds is None else embeds
        return self.values(torch.split(embeds, self.sizes(batch).tolist()), targets)

    def probability(self, batch, targets):
        return torch.sigmoid(self.score(batch, targets))

    def holds(self, batch, targets):
        return self.score(batch, targets) > 0

    @contextmanager
    def relevance_rules(self):
        yield

    def own(self, method, batch, targets):
        return torch.ones(int(self.sizes(batch).sum()))


class Linear(Toy):
    """F = bias + sum over tokens of the token's value, or with `product` their product.

    A token's embedding is (value, 1), the blank's (0, 1): every method has to find the values themselves.
    """

    def __init__(self, values, bias=0.0, product=False):
        self.embedding = torch.tensor([[0.0, 1.0], *([float(v), 1.0] for v in values)])
        self.bias = bias
        self.product = product

    def values(self, rows, targets):
        sign = 1.0 - 2.0 * targets.float()
        return sign * torch.stack([self.bias + (row[:, 0].prod() if self.product else row[:, 0].sum()) for row in rows])


class Prompted(Linear):
    """`Linear` with a prompt beside the text: the last three of each record's tokens, a word and two vectors.

    F is the sum of all that is in the embeddings. The blank of a vector is (0.5, 0), that of anything else 0.
    """

    PROMPT = (Beside("prompt", "which"), Beside("soft_prompt"), Beside("soft_prompt"))

    def __init__(self, values, deep):
        """`deep` is what some tokens have at a further layer."""
        super().__init__(values)
        self.embedding = torch.nn.functional.pad(self.embedding[:, :1], (0, 1))
        for number, value in deep.items():
            self.embedding[number, 1] = value

    def units(self, batch):
        return [
            Units("word", each.start[:-3], each.end[:-3], each.of_position, beside=self.PROMPT) for each in super().units(batch)
        ]

    def blank(self, batch):
        vectors = np.concatenate([np.arange(len(row)) >= len(row) - 2 for row in batch.ids])
        return torch.from_numpy(vectors).unsqueeze(-1) * torch.tensor([[0.5, 0.0]])

    def embed(self, batch):
        ids = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *batch.ids]))
        return torch.where((ids == MASK).unsqueeze(-1), self.blank(batch), self.embedding[ids])

    def values(self, rows, targets):
        return torch.stack([row.sum() for row in rows])


class Transformer(Toy):
    """The tiny BERT with a linear head on the mean of its states; texts are padded to the longest of the batch."""

    def __init__(self, encoder, labels=3, scale=1.0):
        self.encoder = encoder.requires_grad_(False)
        self.embedding = encoder.get_input_embeddings().weight.detach() * scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            self.head = torch.randn(labels, encoder.config.hidden_size)

    def states(self, rows):
        inputs = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        mask = torch.tensor([[1] * len(row) + [0] * (inputs.shape[1] - len(row)) for row in rows])
        return self.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state, mask

    def values(self, rows, targets):
        states, mask = self.states(rows)
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return (mean * self.head[targets]).sum(-1)

    def holds(self, batch, targets):
        return torch.ones(len(targets), dtype=torch.bool)

    def relevance_rules(self):
        return relevance_rules(self.encoder)
