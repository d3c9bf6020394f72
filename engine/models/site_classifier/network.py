"""The network: an encoder over windows, attention pooling over all tokens of a report, one linear head a task.

For token states h_t [d], a task's pooling head k weighs them by a_kt = softmax_t(q_k . tanh(W h_t)) over every token of every
window of the report (Bahdanau-style additive attention with learned queries), c_k = sum_t a_kt h_t, and the logits are a linear
map of the concatenated c_k. Windows see each other only through the pooling.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.models.site_classifier.config import ClassifierConfig


@dataclass
class Batch:
    """Windows of several records.

    `ids`, `mask` (1 for every real position), `text` (1 for tokens of the report itself: no special tokens, no paired text) are
    [W, L]; `types` [W, L] are segment ids; `record` [W] numbers the window's record from 0 to `records`-1. `row` are the
    records' keys. `position` [W, L] is the token's index in its report, -1 outside `text`.
    """

    ids: Tensor
    mask: Tensor
    text: Tensor
    types: Tensor
    record: Tensor
    position: Tensor
    row: list[int]

    @property
    def records(self) -> int:
        return len(self.row)

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        return Batch(
            *(getattr(self, name).to(device) for name in ("ids", "mask", "text", "types", "record", "position")), self.row
        )


@dataclass
class Pooled:
    """What the pooling saw and made: states [W, L, d] fp32, weights [W, L, heads] per task, logits [records, labels] per task."""

    states: Tensor
    weights: Mapping[str, Tensor]
    contexts: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]


class AttentionPool(nn.Module):
    """Additive attention with learned queries over all tokens of a record."""

    def __init__(self, states: int, width: int, heads: int) -> None:
        super().__init__()
        self.key = nn.Linear(states, width)
        self.query = nn.Linear(width, heads, bias=False)

    def forward(self, states: Tensor, text: Tensor, record: Tensor, records: int) -> tuple[Tensor, Tensor]:
        """Context [records, heads * d] and weights [W, L, heads], which sum to 1 over a record's text tokens."""
        scores = self.query(torch.tanh(self.key(states)))
        scores = scores.masked_fill(~text.bool().unsqueeze(-1), float("-inf"))
        heads = scores.shape[-1]
        index = record.unsqueeze(-1).expand(-1, heads)
        top = scores.detach().amax(1)
        top = torch.full((records, heads), float("-inf"), device=top.device).scatter_reduce(0, index, top, "amax")
        top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
        mass = torch.exp(scores - top[record].unsqueeze(1))
        total = torch.zeros(records, heads, device=mass.device).index_add(0, record, mass.sum(1))
        weights = mass / total.clamp_min(1e-30)[record].unsqueeze(1)
        partial = weights.transpose(1, 2) @ states
        context = torch.zeros(records, heads, states.shape[-1], device=states.device).index_add(0, record, partial)
        return context.flatten(1), weights


class SiteNetwork(nn.Module):
    """Encoder, one pool and one head a task. Pooling and heads work in fp32 whatever the encoder's precision."""

    def __init__(self, config: ClassifierConfig, encoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        states = encoder.config.hidden_size
        self.pools = nn.ModuleDict({t.name: AttentionPool(states, config.pool_width, config.pool_heads) for t in config.tasks})
        self.heads = nn.ModuleDict({t.name: nn.Linear(states * config.pool_heads, len(t.labels)) for t in config.tasks})

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings [W, L, d], before positions and layer norm: what gradients are taken to."""
        return self.encoder.get_input_embeddings()(ids)

    def encode(self, batch: Batch, embeds: Tensor | None = None, chunk: int = 0) -> Tensor:
        """Token states [W, L, d] in fp32.

        With `chunk`, windows pass in groups of that many and a backward pass computes each group again, so that memory for a
        gradient is that of one group however long the report.
        """
        embeds = self.embed(batch.ids) if embeds is None else embeds
        if not chunk or len(embeds) <= chunk:
            return self._states(embeds, batch.mask, batch.types)
        parts = []
        for start in range(0, len(embeds), chunk):
            piece = slice(start, start + chunk)
            inputs = (embeds[piece], batch.mask[piece], batch.types[piece])
            if torch.is_grad_enabled():
                parts.append(checkpoint(self._states, *inputs, use_reentrant=False))
            else:
                parts.append(self._states(*inputs))
        return torch.cat(parts)

    def pool(self, batch: Batch, states: Tensor) -> Pooled:
        """Weights, contexts and logits of every task from token states."""
        weights, contexts, logits = {}, {}, {}
        for name, pool in self.pools.items():
            contexts[name], weights[name] = pool(states, batch.text, batch.record, batch.records)
            logits[name] = self.heads[name](contexts[name])
        return Pooled(states, weights, contexts, logits)

    def forward(self, batch: Batch, embeds: Tensor | None = None, chunk: int = 0) -> Pooled:
        return self.pool(batch, self.encode(batch, embeds, chunk))

    def _states(self, embeds: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        out = self.encoder(inputs_embeds=embeds, attention_mask=mask, token_type_ids=types)
        return out.last_hidden_state.float()
