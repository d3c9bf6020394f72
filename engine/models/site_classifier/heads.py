"""How the token states of a report become one vector: the pooling part of each head.

Every head sees the states of all windows of a batch, and gives for each record a context vector and for each text token the
weight that it had in it. Softmaxes run over all text tokens of a record, in whichever window they stand; special tokens and a
paired text have no part in them.

pooling   additive attention with several learned queries (Bahdanau et al. 2015)
cls       the first token's state, CLF-BS of Metzner et al. (arXiv 2507.21302); over several windows their mean
target    one learned query on keys ELU(K h) and values ELU(V h), scaled dot product: CLF-TA, after the same authors' public code
dpla      deformable phrase-level attention, see `dpla.py`
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ContractError

if TYPE_CHECKING:
    from engine.models.tokens import Batch


@dataclass
class Attended:
    """What a pool made of a batch: context [records, width] and weights [W, L, queries].

    A query's weights sum to 1 over a record's text tokens; `cls` has none of its own and gives [W, L, 0]. `own` are what the
    pool needs again to share the context among tokens.
    """

    context: Tensor
    weights: Tensor
    own: tuple[Tensor, ...] = field(default=())


class Pool(nn.Module):
    """What every pool offers. `width` is the size of a context."""

    width: int

    def forward(self, states: Tensor, batch: "Batch", held: bool = False) -> Attended:
        """Contexts and weights from states [W, L, d]; with `held` no gradient passes through the weights."""
        raise NotImplementedError

    def shares(self, states: Tensor, found: Attended, slope: Tensor) -> Tensor:
        """Each token's share [W, L] of slope . context, for slopes [W, width] of the windows' records."""
        raise ContractError(f"{type(self).__name__} has no exact shares")


class AttentionPool(Pool):
    """Additive attention with learned queries: a_kt = softmax_t(q_k . tanh(W h_t)), c_k = sum_t a_kt h_t."""

    def __init__(self, states: int, width: int, heads: int) -> None:
        super().__init__()
        self.width = states * heads
        self.key = nn.Linear(states, width)
        self.query = nn.Linear(width, heads, bias=False)

    def forward(self, states: Tensor, batch: "Batch", held: bool = False) -> Attended:
        weights = over_records(self.query(torch.tanh(self.key(states))), batch)
        weights = weights.detach() if held else weights
        return Attended(summed(weights, states, batch).flatten(1), weights)

    def shares(self, states: Tensor, found: Attended, slope: Tensor) -> Tensor:
        weights = found.weights
        slope = slope.view(len(slope), weights.shape[-1], -1)
        return (torch.einsum("wld,wkd->wlk", states, slope) * weights).sum(-1)


class FirstToken(Pool):
    """The state of the first token of a record's windows, averaged over them."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.width = states

    def forward(self, states: Tensor, batch: "Batch", held: bool = False) -> Attended:
        total = torch.zeros(batch.records, self.width, device=states.device).index_add(0, batch.record, states[:, 0])
        count = torch.bincount(batch.record, minlength=batch.records).clamp_min(1).unsqueeze(-1)
        return Attended(total / count, states.new_zeros(*states.shape[:2], 0))


class TargetAttention(Pool):
    """One learned query: a_t = softmax_t(q . ELU(K h_t) / sqrt d), c = sum_t a_t ELU(V h_t)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.width = states
        self.key = nn.Linear(states, states)
        self.value = nn.Linear(states, states)
        self.query = nn.Parameter(nn.init.normal_(torch.empty(states), std=states**-0.5))

    def forward(self, states: Tensor, batch: "Batch", held: bool = False) -> Attended:
        weights = over_records(matched(self.query, self.key(states)), batch)
        weights = weights.detach() if held else weights
        values = functional.elu(self.value(states))
        return Attended(summed(weights, values, batch).squeeze(1), weights, (values,))

    def shares(self, states: Tensor, found: Attended, slope: Tensor) -> Tensor:
        (values,) = found.own
        return torch.einsum("wld,wd->wl", values, slope) * found.weights.squeeze(-1)


def matched(query: Tensor, keys: Tensor) -> Tensor:
    """Scores [W, L, 1] of a query [d] on keys [W, L, d] behind an ELU."""
    return (functional.elu(keys) @ query / math.sqrt(len(query))).unsqueeze(-1)


def over_records(scores: Tensor, batch: "Batch") -> Tensor:
    """Softmax of scores [W, L, k] over the text tokens of each record, over its windows; 0 elsewhere."""
    scores = scores.masked_fill(~batch.text.bool().unsqueeze(-1), float("-inf"))
    heads = scores.shape[-1]
    index = batch.record.unsqueeze(-1).expand(-1, heads)
    top = scores.detach().amax(1)
    top = torch.full((batch.records, heads), float("-inf"), device=top.device).scatter_reduce(0, index, top, "amax")
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    mass = torch.exp(scores - top[batch.record].unsqueeze(1))
    total = torch.zeros(batch.records, heads, device=mass.device).index_add(0, batch.record, mass.sum(1))
    return mass / total.clamp_min(1e-30)[batch.record].unsqueeze(1)


def summed(weights: Tensor, values: Tensor, batch: "Batch") -> Tensor:
    """Weighted sums [records, k, d] of values [W, L, d] under weights [W, L, k]."""
    parts = weights.transpose(1, 2) @ values
    return torch.zeros(batch.records, *parts.shape[1:], device=parts.device).index_add(0, batch.record, parts)
