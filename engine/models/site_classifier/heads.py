"""How the token states of a report become one vector: the pooling part of each head.

A pool takes the states of all windows of a batch and gives for each record a context vector, and for each text token its weight
in that vector. Softmaxes run over all text tokens of a record, whatever window they are in; special tokens and a paired text take
no part.

pooling   additive attention with several learned queries (Bahdanau et al. 2015)
cls       the first token's state, CLF-BS of Metzner et al. (arXiv 2507.21302); over several windows their mean
target    one learned query on keys ELU(K h) and values ELU(V h), scaled dot product: CLF-TA, after the same authors' public code
dpla      deformable phrase-level attention, see `dpla.py`
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ContractError

if TYPE_CHECKING:
    from engine.models.tokens import Batch


@dataclass
class Attended:
    """What a pool makes of a batch: context [records, width] and weights [W, L, queries].

    The weights of a query sum to 1 over the text tokens of a record; `cls` has no queries and gives [W, L, 0]. `parts` are
    intermediate values that the pool needs again to divide the context among tokens.
    """

    context: Tensor
    weights: Tensor
    parts: tuple[Tensor, ...] = ()


class Pool(nn.Module):
    """What every pool offers. `width` is the size of a context."""

    width: int

    def forward(self, states: Tensor, batch: "Batch", constant: bool = False) -> Attended:
        """Contexts and weights from states [W, L, d]; with `constant` no gradient passes through the weights."""
        raise NotImplementedError

    def shares(self, states: Tensor, attended: Attended, slope: Tensor) -> Tensor:
        """Each token's share [W, L] of slope . context, for the slope [W, width] of each window's record."""
        raise ContractError(f"{type(self).__name__} has no exact shares")


class AttentionPool(Pool):
    """Additive attention with learned queries: a_kt = softmax_t(q_k . tanh(W h_t)), c_k = sum_t a_kt h_t."""

    def __init__(self, states: int, width: int, heads: int) -> None:
        super().__init__()
        self.width = states * heads
        self.key = nn.Linear(states, width)
        self.query = nn.Linear(width, heads, bias=False)

    def forward(self, states: Tensor, batch: "Batch", constant: bool = False) -> Attended:
        weights = record_softmax(self.query(torch.tanh(self.key(states))), batch, constant)
        return Attended(record_sums(weights, states, batch).flatten(1), weights)

    def shares(self, states: Tensor, attended: Attended, slope: Tensor) -> Tensor:
        slope = slope.view(len(slope), attended.weights.shape[-1], -1)
        return (torch.einsum("wld,wkd->wlk", states, slope) * attended.weights).sum(-1)


class FirstToken(Pool):
    """The state of the first token of a record's windows, averaged over them."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.width = states

    def forward(self, states: Tensor, batch: "Batch", constant: bool = False) -> Attended:
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

    def forward(self, states: Tensor, batch: "Batch", constant: bool = False) -> Attended:
        weights = record_softmax(query_scores(self.query, self.key(states)), batch, constant)
        values = functional.elu(self.value(states))
        return Attended(record_sums(weights, values, batch).squeeze(1), weights, (values,))

    def shares(self, states: Tensor, attended: Attended, slope: Tensor) -> Tensor:
        (values,) = attended.parts
        return torch.einsum("wld,wd->wl", values, slope) * attended.weights.squeeze(-1)


def query_scores(query: Tensor, keys: Tensor) -> Tensor:
    """Scores [W, L, 1] of a query [d] against keys [W, L, d] behind an ELU."""
    return (functional.elu(keys) @ query / math.sqrt(len(query))).unsqueeze(-1)


def record_softmax(scores: Tensor, batch: "Batch", constant: bool) -> Tensor:
    """Softmax of scores [W, L, k] over the text tokens of each record, across windows; 0 elsewhere. `constant` detaches it."""
    scores = scores.masked_fill(~batch.text.bool().unsqueeze(-1), float("-inf"))
    heads = scores.shape[-1]
    index = batch.record.unsqueeze(-1).expand(-1, heads)
    top = scores.detach().amax(1)
    top = torch.full((batch.records, heads), float("-inf"), device=top.device).scatter_reduce(0, index, top, "amax")
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    mass = torch.exp(scores - top[batch.record].unsqueeze(1))
    total = torch.zeros(batch.records, heads, device=mass.device).index_add(0, batch.record, mass.sum(1))
    weights = mass / total.clamp_min(1e-30)[batch.record].unsqueeze(1)
    return weights.detach() if constant else weights


def record_sums(weights: Tensor, values: Tensor, batch: "Batch") -> Tensor:
    """Weighted sums [records, k, d] of values [W, L, d] under weights [W, L, k]."""
    sums = weights.transpose(1, 2) @ values
    return torch.zeros(batch.records, *sums.shape[1:], device=sums.device).index_add(0, batch.record, sums)
