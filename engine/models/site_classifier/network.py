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
    """States [W, L, d] in fp32, and for each task the output of its pool and its logits [records, labels]."""

    states: Tensor
    attended: Mapping[str, Attended]
    logits: Mapping[str, Tensor]


class SiteNetwork(nn.Module):
    """Encoder, and for each task a pool and a head, which compute in fp32 whatever the encoder's precision."""

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

        With `chunk`, that many windows are encoded at a time, and a backward pass computes each group again: the memory that a
        gradient needs is that of one group, however long the report.
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

    def pool(self, batch: Batch, states: Tensor, constant: bool = False) -> Pooled:
        """The pools and heads of all tasks on token states; with `constant` no gradient passes through the pools' weights."""
        attended = {name: pool(states, batch, constant) for name, pool in self.pools.items()}
        return Pooled(states, attended, {name: self.heads[name](attended[name].context) for name in attended})

    def forward(self, batch: Batch, embeds: Tensor | None = None, chunk: int = 0) -> Pooled:
        return self.pool(batch, self.encode(batch, embeds, chunk))

    @torch.no_grad()
    def first_attention(self, batch: Batch) -> Tensor:
        """The last layer's attention of each window's first token to the window's tokens, [W, L], the mean over attention heads.

        The real positions of a window, special tokens among them, sum to 1. Of an encoder with global attention it is that.
        """
        out = self._encoded(self.embed(batch.ids), batch.mask, batch.types, output_attentions=True)
        mask = batch.mask.to(torch.float32)
        weights = out.global_attentions[-1][:, :, : mask.shape[1], 0] if self._is_global else out.attentions[-1][:, :, 0]
        weights = weights.float().mean(1) * mask
        return weights / weights.sum(1, keepdim=True).clamp_min(1e-30)

    @property
    def _is_global(self) -> bool:
        return self.encoder.config.model_type == "longformer"

    def _states(self, embeds: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        return self._encoded(embeds, mask, types).last_hidden_state.float()

    def _encoded(self, embeds: Tensor, mask: Tensor, types: Tensor, **more: Any) -> Any:
        if self._is_global:
            # Unless it is global, the first token sees no further than its own attention window.
            first = torch.zeros_like(mask)
            first[:, 0] = 1
            more["global_attention_mask"] = first
        if getattr(self.encoder.config, "type_vocab_size", 0) > 1:
            more["token_type_ids"] = types
        return self.encoder(inputs_embeds=embeds, attention_mask=mask, **more)


def _pool(config: ClassifierConfig, states: int) -> Pool:
    if config.head == "cls":
        return FirstToken(states)
    if config.head == "target":
        return TargetAttention(states)
    if config.head == "dpla":
        return DeformablePhrases(states, config.phrase_reach)
    return AttentionPool(states, config.pool_width, config.pool_heads)
