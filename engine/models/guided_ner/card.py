"""The model card of a tagger, from the figures that the recipe measured."""

from collections.abc import Mapping
from typing import Any

from engine.models.entities.card import chapters
from engine.models.guided_ner.config import Config, Decoding


def model_card(figures: Mapping[str, Any], config: Config, command: str) -> str:
    """The card as Markdown."""
    encoder = config.encoder
    lines = [
        f"# Entities: {', '.join(config.types)}",
        "",
        f"A tagger with the head {config.head} and a {encoder['model_type']} encoder of {encoder['num_hidden_layers']} layers:",
        f"{figures['parameters']['total']:,} parameters, all in the checkpoint. Texts in `{config.language}`.",
        "",
    ]
    return "\n".join([*lines, *chapters(figures, Decoding(**figures["decoding"]), command)]) + "\n"
