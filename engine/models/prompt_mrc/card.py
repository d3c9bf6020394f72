"""The model card of an extractor, from the figures that the recipe measured."""

from collections.abc import Mapping
from typing import Any

from engine.models.entities.card import chapters
from engine.models.prompt_mrc.config import HARD, HYBRID, NAME, SOFT, TAGGER, MrcConfig
from engine.models.prompt_mrc.templates import source


def model_card(figures: Mapping[str, Any], config: MrcConfig, command: str) -> str:
    """The card as Markdown."""
    trained, total = figures["parameters"]["trained"], figures["parameters"]["total"]
    words, own = _words(config)
    soft = f"{config.soft} soft vectors{' at every layer' if config.deep else ''}"
    prompt = {TAGGER: "tags for every type, no prompt", NAME: words, HARD: words, SOFT: soft, HYBRID: f"{words} and {soft}"}
    lines = [
        f"# Entities: {', '.join(config.types)}",
        "",
        f"Prompt-bioMRC, mode {config.mode}: {prompt[config.mode]} in front of each text. Encoder {config.encoder} (sha256",
        f"{config.encoder_digest[:12]}...), {trained:,} of {total:,} parameters trained.",
        "",
    ]
    if own:
        lines += [
            f"For {' and '.join(own)} the question is the training's own (model.questions, model.ontology), not a built-in one.",
            "It is stored in templates.json and in the training's settings (_training/settings.json), and may contain words of",
            "the training texts.",
            "",
        ]
    return "\n".join([*lines, *chapters(figures, config.decoding_type(**figures["decoding"]), command)]) + "\n"


def _words(config: MrcConfig) -> tuple[str, list[str]]:
    """The kinds of words in front of a text, and the types whose question is not built in."""
    texts = zip(config.types, config.queries, strict=False)
    sources = {name: source(config, name, text) for name, text in texts}
    kinds = {name: origin.get("style", origin.get("source")) for name, origin in sources.items()}
    phrases = {"name": "the type's name", "type": "the type's name", "own": "a question of its own"}
    words = dict.fromkeys(phrases.get(kind, f"a template ({kind})") for kind in kinds.values())
    return " or ".join(words), [name for name, kind in kinds.items() if kind == "own"]
