"""A network from its configuration: fresh, as training begins."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from engine.encoders import encoder_digest, encoder_folder, load_tokenizer, special_ids
from engine.errors import ConfigError
from engine.models.prompt_mrc.config import STYLES, MrcConfig
from engine.models.prompt_mrc.encoder import load_parts
from engine.models.prompt_mrc.network import MrcNetwork
from engine.models.prompt_mrc.templates import queries, templates

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def completed(config: MrcConfig, own: dict[str, str] | None = None) -> MrcConfig:
    """The configuration with what follows from it: the encoder's digest and special tokens, and each type's query.

    `own` are a user's texts for some types, in place of those that come along.

    Raises:
        ConfigError: a type has no template, nothing comes along in the language, or the encoder is not here.
    """
    asked = queries(config.types, config.mode, config.language, config.style, config.version, own)
    special = special_ids(load_tokenizer(encoder_folder(config.encoder)))
    return replace(config, queries=asked, encoder_digest=encoder_digest(config.encoder), special=special)


def new_network(config: MrcConfig, dtype: torch.dtype, attention: str) -> MrcNetwork:
    """A network with a pretrained encoder and fresh heads and prompts, all drawn from `config.seed`; `config` is `completed`.

    Raises:
        ConfigError: a query is too long, or the encoder is too small.
    """
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    encoder = load_parts(config, dtype, attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = MrcNetwork(config, encoder, pieces(tokenizer, config.queries) or [[]] * len(config.types))
    start_soft(network, tokenizer)
    return network


def start_soft(network: MrcNetwork, tokenizer: "Tokenizer") -> None:
    """Sets the soft vectors as training begins, from each type's definition; nothing where the mode has none."""
    config = network.config
    if config.is_soft:
        network.start_soft(pieces(tokenizer, [_definition(name, config) for name in config.types]))


def pieces(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Word pieces of some texts.

    Raises:
        ConfigError: a text has none.
    """
    found = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    if not all(found):
        raise ConfigError("questions: a question has no words")
    return found


def _definition(name: str, config: MrcConfig) -> str:
    """What a type's soft vectors start from: its definition, else its query, else its name."""
    for each in templates():
        if (each.type, each.language, each.style, each.version) == (name, config.language, STYLES[1], 1):
            return each.text
    asked = dict(zip(config.types, config.queries, strict=False))
    return asked.get(name, name.replace("_", " "))
