"""The encoder taken apart: prompt and text go through its lower layers each alone, and through the upper ones together.

With no layer apart this is the encoder as it is, since embeddings are made position by position. Lower layers apart are DeFormer
(Cao et al. 2020, section 3): a text is then encoded once for all prompts there, and a prompt once for all texts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.encoders import encoder_digest, first_position, load_encoder, positions
from engine.errors import ConfigError
from engine.models.prompt_mrc.config import MrcConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BERT = ("bert",)
_OTHERS = ("roberta", "modernbert")
Enter = Callable[[Tensor, int], Tensor]


def load_parts(config: MrcConfig, dtype: torch.dtype, attention: str) -> "PreTrainedModel":
    """The encoder of a model with its lowest `depth` layers.

    Raises:
        ConfigError: its files are not those the model was trained on, or it has too few layers or positions.
    """
    if config.encoder_digest and encoder_digest(config.encoder) != config.encoder_digest:
        raise ConfigError(f"the encoder {config.encoder} is not the one this model was trained on")
    encoder = load_encoder(config.encoder, dtype, attention)
    kind, layers = encoder.config.model_type, layers_of(encoder)
    if config.depth > len(layers):
        raise ConfigError(f"model.depth: {config.encoder} has {len(layers)} layers, {config.depth} cannot be kept")
    if config.depth:
        del layers[config.depth :]
    for name, off in (("share_layers", "0"), ("deep", "false")):
        if getattr(config, name) and kind not in _BERT:
            raise ConfigError(f"model.{name}: an encoder of the kind {kind} cannot be taken apart; set it to {off}")
    if config.share_layers > len(layers):
        raise ConfigError(f"model.share_layers: {config.encoder} has {len(layers)} layers, not {config.share_layers}")
    room = positions(encoder.config)
    need = config.context_position + config.window + 1
    if need > room:
        raise ConfigError(f"model.window: with model.prompt_room it takes {need} positions, {config.encoder} has {room}")
    return encoder


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The encoder's layers, lowest first."""
    kind = encoder.config.model_type
    if kind in _OTHERS[1:]:
        return encoder.layers
    if kind in (*_BERT, *_OTHERS):
        return encoder.encoder.layer
    raise ConfigError(f"encoder: a {kind} cannot be used here; the kinds that can are {', '.join((*_BERT, *_OTHERS))}")


class Parted(nn.Module):
    """Runs the parts of an encoder. Masks [n, L] are 1 for real positions, `kind` is the segment of a whole part.

    `enter` is given the states in front of each layer but the first, and the layer's number, and gives back what the layer reads.
    """

    def __init__(self, encoder: "PreTrainedModel", share: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.share = share
        self.apart = encoder.config.model_type in _BERT

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings [..., d]."""
        return self.encoder.get_input_embeddings()(ids)

    def embed_deep(self, ids: Tensor) -> Tensor:
        """Word embeddings of some pieces [n], and beside them what every further layer reads of these alone: [n, layers * d]."""
        embeds = self.embed(ids)
        states = self.encoder(inputs_embeds=embeds.unsqueeze(0), output_hidden_states=True).hidden_states
        return torch.cat([embeds, *(each[0] for each in states[1:-1])], -1)

    def lower(self, embeds: Tensor, mask: Tensor, position: int, kind: int, enter: Enter | None = None) -> Tensor:
        """States [n, L, d] of a part that begins at a position, after the layers where parts do not see each other."""
        embeds = embeds.to(self.dtype)
        if not self.apart:
            return embeds
        places = torch.arange(position, position + embeds.shape[1], device=embeds.device).unsqueeze(0)
        types = torch.full(embeds.shape[:2], kind, dtype=torch.long, device=embeds.device)
        states = self.encoder.embeddings(inputs_embeds=embeds, token_type_ids=types, position_ids=places)
        return self._through(states, mask, slice(0, self.share), enter) if self.share else states

    def upper(
        self,
        prompt: Tensor,
        prompt_mask: Tensor,
        context: Tensor,
        context_mask: Tensor,
        position: int,
        enter: Enter | None = None,
    ) -> Tensor:
        """States [n, L, d] in fp32 of the context, which begins at `position`, after the layers where it sees its prompt."""
        width = prompt.shape[1]
        states, mask = torch.cat([prompt, context], 1), torch.cat([prompt_mask, context_mask], 1)
        rest = slice(self.share, None)
        found = self._through(states, mask, rest, enter) if self.apart else self._whole(states, mask, width, position)
        return found[:, width:].float()

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.get_input_embeddings().weight.dtype

    def _through(self, states: Tensor, mask: Tensor, which: slice, enter: Enter | None) -> Tensor:
        hidden = (1.0 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        for number, layer in list(enumerate(layers_of(self.encoder)))[which]:
            if enter is not None and number:
                states = enter(states, number)
            states = layer(states, hidden)
        return states

    def _whole(self, embeds: Tensor, mask: Tensor, width: int, position: int) -> Tensor:
        """The whole encoder, where parts cannot pass alone. A prompt's padding goes in front of it: layers that see neighbours
        alone count places and not positions, and must see as much of a prompt whatever stands beside it in the batch."""
        pads = width - mask[:, :width].sum(-1, keepdim=True)
        places = torch.arange(embeds.shape[1], device=embeds.device).expand(len(embeds), -1)
        order = torch.where(places < width, (places - pads) % width, places)
        embeds = embeds.gather(1, order.unsqueeze(-1).expand_as(embeds))
        offset = first_position(self.encoder.config)
        more: dict[str, Any] = {"position_ids": torch.where(order < width, order, order - width + position) + offset}
        return self.encoder(inputs_embeds=embeds, attention_mask=mask.gather(1, order), **more).last_hidden_state
