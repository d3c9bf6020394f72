"""The network: an encoder over windows, and for each task a pool over all tokens of a report and one linear head.

Windows see each other only through the pool (`heads.py`), whose context is a task's logits by one linear map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.dpla import DeformablePhrases
from engine.models.site_classifier.heads import Attended, AttentionPool, FirstToken, Pool, TargetAttention
from engine.models.tokens import Batch


@dataclass
class Pooled:
    """What the pools saw and made: states [W, L, d] fp32; per task what its pool attended to, and logits [records, labels]."""

    states: Tensor
    found: Mapping[str, Attended]
    logits: Mapping[str, Tensor]


class SiteNetwork(nn.Module):
    """Encoder, one pool and one head a task. Pooling and heads work in fp32 whatever the encoder's precision."""

    def __init__(self, config: ClassifierConfig, encoder: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        states = encoder.config.hidden_size
        self.pools = nn.ModuleDict({task.name: _pool(config, states) for task in config.tasks})
        self.heads = nn.ModuleDict({t.name: nn.Linear(self.pools[t.name].width, len(t.labels)) for t in config.tasks})

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

    def pool(self, batch: Batch, states: Tensor, held: bool = False) -> Pooled:
        """What every task's pool makes of token states, and its logits; with `held` the pools' weights are constants."""
        found = {name: pool(states, batch, held) for name, pool in self.pools.items()}
        return Pooled(states, found, {name: self.heads[name](found[name].context) for name in found})

    def forward(self, batch: Batch, embeds: Tensor | None = None, chunk: int = 0) -> Pooled:
        return self.pool(batch, self.encode(batch, embeds, chunk))

    @torch.no_grad()
    def first_attention(self, batch: Batch) -> Tensor:
        """How the last layer's attention of each window's first token lies on the window, [W, L], the mean over attention heads.

        Real positions sum to 1 in each window, special tokens among them. An encoder with global attention gives the global one.
        """
        out = self._encoded(self.embed(batch.ids), batch.mask, batch.types, output_attentions=True)
        mask = batch.mask.to(torch.float32)
        found = out.global_attentions[-1][:, :, : mask.shape[1], 0] if self._is_global else out.attentions[-1][:, :, 0]
        found = found.float().mean(1) * mask
        return found / found.sum(1, keepdim=True).clamp_min(1e-30)

    @property
    def _is_global(self) -> bool:
        return self.encoder.config.model_type == "longformer"

    def _states(self, embeds: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        return self._encoded(embeds, mask, types).last_hidden_state.float()

    def _encoded(self, embeds: Tensor, mask: Tensor, types: Tensor, **more: Any) -> Any:
        if self._is_global:
            # Without a global token the first state sees no further than its own window of attention.
            first = torch.zeros_like(mask)
            first[:, 0] = 1
            more["global_attention_mask"] = first
        if getattr(self.encoder.config, "type_vocab_size", 0) > 1:
            more["token_type_ids"] = types
        return self.encoder(inputs_embeds=embeds, attention_mask=mask, **more)


def _pool(config: ClassifierConfig, states: int) -> Pool:
    """The pool of an architecture, for token states of that size."""
    if config.head == "cls":
        return FirstToken(states)
    if config.head == "target":
        return TargetAttention(states)
    if config.head == "dpla":
        return DeformablePhrases(states, config.phrase_reach)
    return AttentionPool(states, config.pool_width, config.pool_heads)
