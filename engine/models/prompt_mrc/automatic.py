"""Templates that make themselves, of a corpus: each type's definition from a table, and mentions from train as examples."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from engine.encoders import attention_for, encoder_folder, load_encoder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.models.prompt_mrc.config import HARD, HYBRID, MrcConfig
from engine.models.prompt_mrc.corpus import Corpus, members_of
from engine.models.prompt_mrc.infused import BUDGET, Infused, infused, read_ontology
from engine.sources.labelled.splits import TRAIN


def with_templates(settings: Mapping[str, Any], corpus: Corpus, ontology: str | None, mentions: int) -> Mapping[str, Any]:
    """The settings of a training, with templates in place of questions that the user does not ask; as they were without a table.

    Raises:
        ConfigError: the mode has no templates, or the table cannot be read or defines none of the types.
    """
    if ontology is None:
        return settings
    model = MrcConfig(types=corpus.types, **settings["model"])
    if model.mode not in (HARD, HYBRID):
        raise ConfigError(f"model.ontology: a model of the mode '{model.mode}' has no templates; leave it out")
    known = definitions(ontology, corpus.types, "model.ontology")
    made = automatic(corpus, model.encoder, known, most=mentions)
    return {**settings, "questions": {name: template.text for name, template in made.items()} | (settings["questions"] or {})}


def definitions(table: str, types: tuple[str, ...], key: str) -> dict[str, str]:
    """Type -> definition, from a table that a user names.

    Raises:
        ConfigError: it cannot be read, or has none of the types.
    """
    known = read_ontology(table, key)
    if not set(types) & set(known):
        raise ConfigError(f"{key}: {table} defines none of the types, which are {', '.join(types)}")
    return known


def automatic(
    corpus: Corpus, encoder: str, known: Mapping[str, str], *, most: int = 12, budget: int = BUDGET
) -> dict[str, Infused]:
    """A template for each type, of at most `budget` word pieces; a type that is not defined has its name and mentions.

    Args:
        encoder: tells mentions that differ. known: type -> definition. most: mentions in a template.
    """
    train = [corpus.documents[member] for member in members_of(corpus, TRAIN)]
    texts = [each.text for each in train]
    network = load_encoder(encoder, pick_precision("fp32", "cpu"), attention_for("cpu"))
    tokenizer = load_tokenizer(encoder_folder(encoder))

    @torch.no_grad()
    def embed(words: list[str]) -> NDArray:
        rows = [network(torch.tensor([tokenizer.encode(each).ids])).last_hidden_state[0].mean(0) for each in words]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()

    def template(kind: str) -> Infused:
        mentions = [each.text[span.start : span.end] for each in train for span in each.spans if span.type == kind]
        return infused(kind, known.get(kind), mentions, texts, embed, tokenizer, examples=most, budget=budget)

    return {kind: template(kind) for kind in corpus.types}
