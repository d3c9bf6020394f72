"""The encoder in two parts: prompt and text pass the lower layers separately, and the upper ones together.

Without separate layers this is the plain encoder, because embeddings are computed position by position. With them it is DeFormer
(Cao et al. 2020, section 3): the lower layers encode a text once for all prompts, and a prompt once for all texts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.encoders import encoder_digest, first_position, load_encoder, positions
from engine.errors import ConfigError
from engine.models.prompt_mrc.config import MrcConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Kinds of encoders. The layers of the first can be called one by one.
_BERT, _ROBERTA, _MODERNBERT = _KINDS = ("bert", "roberta", "modernbert")
# From the states in front of a layer and the layer's number to what the layer reads.
LayerInput = Callable[[Tensor, int], Tensor]


def load_layers(config: MrcConfig, dtype: torch.dtype, attention: str) -> "PreTrainedModel":
    """The pretrained encoder of a model, with the layers that `config.depth` keeps.

    Raises:
        ConfigError: its files are not those the model was trained on, it has too few layers or positions, or its layers cannot be
            called one by one where that is needed.
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
        if getattr(config, name) and kind != _BERT:
            raise ConfigError(f"model.{name}: the layers of an encoder of the kind {kind} cannot be separated; set it to {off}")
    if config.share_layers > len(layers):
        raise ConfigError(f"model.share_layers: {config.encoder} has {len(layers)} layers, not {config.share_layers}")
    available, needed = positions(encoder.config), config.context_position + config.window + 1
    if needed > available:
        raise ConfigError(f"model.window: with model.prompt_room it takes {needed} positions, {config.encoder} has {available}")
    return encoder


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The encoder's layers, lowest first."""
    kind = encoder.config.model_type
    if kind not in _KINDS:
        raise ConfigError(f"encoder: a {kind} cannot be used here; the kinds that can are {', '.join(_KINDS)}")
    return encoder.layers if kind == _MODERNBERT else encoder.encoder.layer


class SplitEncoder(nn.Module):
    """Runs an encoder whose lower `share` layers read prompt and text separately.

    Masks [n, L] are 1 for real positions. `layer_input`, if given, is applied in front of each layer but the first.
    """

    def __init__(self, encoder: "PreTrainedModel", share: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.share = share
        self.by_layer = encoder.config.model_type == _BERT

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.get_input_embeddings().weight.dtype

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings [..., d]."""
        return self.encoder.get_input_embeddings()(ids)

    def embed_deep(self, ids: Tensor) -> Tensor:
        """What every layer reads of word pieces [n] on their own: [n, layers * d], word embeddings first."""
        embeds = self.embed(ids)
        states = self.encoder(inputs_embeds=embeds.unsqueeze(0), output_hidden_states=True).hidden_states
        return torch.cat([embeds, *(state[0] for state in states[1:-1])], -1)

    def lower(self, embeds: Tensor, mask: Tensor, position: int, segment: int, layer_input: LayerInput | None = None) -> Tensor:
        """States [n, L, d] of a prompt or a text after the separate layers.

        Args:
            embeds: word embeddings [n, L, d]. position: of the first one. segment: BERT's token type of all of them.
        """
        embeds = embeds.to(self.dtype)
        if not self.by_layer:
            return embeds
        places = torch.arange(position, position + embeds.shape[1], device=embeds.device).unsqueeze(0)
        segments = torch.full(embeds.shape[:2], segment, dtype=torch.long, device=embeds.device)
        states = self.encoder.embeddings(inputs_embeds=embeds, token_type_ids=segments, position_ids=places)
        return self._through(states, mask, slice(0, self.share), layer_input) if self.share else states

    def upper(
        self,
        prompt: Tensor,
        prompt_mask: Tensor,
        context: Tensor,
        context_mask: Tensor,
        position: int,
        layer_input: LayerInput | None = None,
    ) -> Tensor:
        """States [n, L, d] in fp32 of contexts after the layers in which they see their prompts.

        Args:
            prompt, context: from `lower`. position: of the first token of the contexts.
        """
        width = prompt.shape[1]
        states, mask = torch.cat([prompt, context], 1), torch.cat([prompt_mask, context_mask], 1)
        if self.by_layer:
            states = self._through(states, mask, slice(self.share, None), layer_input)
        else:
            states = self._whole(states, mask, width, position)
        return states[:, width:].float()

    def _through(self, states: Tensor, mask: Tensor, layers: slice, layer_input: LayerInput | None) -> Tensor:
        hidden = (1.0 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        for number, layer in list(enumerate(layers_of(self.encoder)))[layers]:
            if layer_input is not None and number:
                states = layer_input(states, number)
            states = layer(states, hidden)
        return states

    def _whole(self, embeds: Tensor, mask: Tensor, width: int, position: int) -> Tensor:
        """The whole encoder in one call. A prompt's padding goes in front of the prompt: layers with local attention count places
        and not positions, and must see equally much of a prompt whatever its padding in the batch."""
        pads = width - mask[:, :width].sum(-1, keepdim=True)
        places = torch.arange(embeds.shape[1], device=embeds.device).expand(len(embeds), -1)
        order = torch.where(places < width, (places - pads) % width, places)
        embeds = embeds.gather(1, order.unsqueeze(-1).expand_as(embeds))
        position_ids = torch.where(order < width, order, order - width + position) + first_position(self.encoder.config)
        return self.encoder(
            inputs_embeds=embeds, attention_mask=mask.gather(1, order), position_ids=position_ids
        ).last_hidden_state
