"""Templates built from an ontology table: a type's definition, and mentions of the training texts as examples.

Mentions are weighted by TF-IDF: how often they are marked, times how few texts contain them. Of the heaviest mentions, those that
lie farthest from each other are taken (farthest-point traversal, Gonzalez 1985), so that the examples are typical and differ.
"""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.encoders import attention_for, encoder_folder, load_encoder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.models.entities.corpus import Corpus, members_of
from engine.sources.labelled.splits import TRAIN
from engine.storage import full_path, storage_for

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUILT_IN = "pkg:ontology"
_TABLE = Path(__file__).with_name("ontology.csv")
# Word pieces of a template.
BUDGET = 48
HEAVIEST = 50
# Characters of a definition. A quote that is not closed turns the rest of a table into one.
LONGEST = 10_000


@dataclass(frozen=True)
class BuiltTemplate:
    """A template's text, and how many mentions it contains."""

    text: str
    mentions: int


def build_templates(
    corpus: Corpus, encoder: str, definitions: Mapping[str, str], *, mentions: int = 12, budget: int = BUDGET
) -> dict[str, BuiltTemplate]:
    """A template for each type of a corpus, from the training texts alone.

    Args:
        encoder: embeds mentions, to choose ones that differ. definitions: by type; a type that has none is asked for by its name.
        mentions: at most so many in a template. budget: word pieces of a template at most.
    """
    import torch

    documents = [corpus.documents[member] for member in members_of(corpus, TRAIN)]
    texts = [document.text for document in documents]
    network = load_encoder(encoder, pick_precision("fp32", "cpu"), attention_for("cpu"))
    tokenizer = load_tokenizer(encoder_folder(encoder))

    @torch.no_grad()
    def embed(words: Sequence[str]) -> NDArray:
        rows = [network(torch.tensor([tokenizer.encode(word).ids])).last_hidden_state[0].mean(0) for word in words]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()

    built = {}
    for name in corpus.types:
        marked = [each.text[span.start : span.end] for each in documents for span in each.spans if span.type == name]
        built[name] = build_template(
            name, definitions.get(name), marked, texts, embed, tokenizer, examples=mentions, budget=budget
        )
    return built


def build_template(
    name: str,
    definition: str | None,
    mentions: Sequence[str],
    texts: Sequence[str],
    embed: Callable[[Sequence[str]], NDArray],
    tokenizer: "Tokenizer",
    *,
    examples: int = 3,
    budget: int = BUDGET,
) -> BuiltTemplate:
    """The template of one type, at most `budget` word pieces: examples are dropped, then the definition cut, until it fits.

    A mention that would not fit even as the only example is never considered, however often it is marked.

    Args:
        mentions, texts: of the training set alone. embed: texts to rows [n, d].
    """
    head = f"{name.replace('_', ' ')}: {definition}" if definition else name.replace("_", " ")
    opening = f"{head.rstrip('.')}, such as "
    normalized = [_normalized(mention) for mention in mentions]
    fitting = {each for each in set(normalized) if each and pieces_of(opening + each, tokenizer) <= budget}
    candidates = heaviest([each for each in normalized if each in fitting], texts)
    chosen = [candidates[place] for place in farthest(embed(candidates), examples)] if candidates else []
    for count in range(len(chosen), -1, -1):
        text = opening + ", ".join(chosen[:count]) if count else head
        if pieces_of(text, tokenizer) <= budget:
            return BuiltTemplate(text, count)
    offsets = tokenizer.encode(head, add_special_tokens=False).offsets
    return BuiltTemplate(head[: offsets[budget - 1][1]], 0)


def heaviest(mentions: Sequence[str], texts: Sequence[str], most: int = HEAVIEST) -> list[str]:
    """Distinct mentions by falling weight, count x log(texts / texts that contain it), regardless of case."""
    counts = Counter(map(_normalized, mentions))
    lowered = [text.lower() for text in texts]
    weight = {}
    for mention, count in counts.most_common(4 * most):
        containing = max(1, sum(mention in text for text in lowered))
        weight[mention] = count * math.log(max(2, len(texts)) / containing + 1e-9)
    return sorted(weight, key=lambda mention: (-weight[mention], mention))[:most]


def farthest(points: NDArray, count: int) -> list[int]:
    """Rows of `points` [n, d]: the first, then each time the one farthest from those chosen before."""
    chosen = [0] if len(points) and count else []
    while len(chosen) < min(count, len(points)):
        distance = np.linalg.norm(points[:, None] - points[None, chosen], axis=-1).min(axis=1)
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return chosen


def pieces_of(text: str, tokenizer: "Tokenizer") -> int:
    """How many word pieces a text has."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def read_definitions(path: str, types: Sequence[str], key: str) -> dict[str, str]:
    """Type -> definition, from a CSV file with the columns `type` and `definition`, or from the built-in one.

    Args:
        types: at least one of them must be defined. key: the setting that names the file, for messages.
    Raises:
        ConfigError: there is no such file, it cannot be read, lacks a column, has a type twice, or defines none of `types`.
    """
    file = full_path(os.path.expanduser(str(_TABLE) if path == BUILT_IN else path))
    try:
        data = storage_for(file).read(file)
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {file}: {error.strerror}") from None
    if data is None:
        raise ConfigError(f"{key}: there is no file {file}")
    unreadable = ConfigError(f"{key}: {file} is no readable CSV file; look for a quote that is not closed")
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {file} is not UTF-8; convert it first") from None
    except csv.Error:
        raise unreadable from None
    if not rows or not {"type", "definition"} <= set(rows[0]):
        raise ConfigError(f"{key}: {file} must have the columns type and definition")
    definitions: dict[str, str] = {}
    for row in rows:
        name, definition = (row["type"] or "").strip(), " ".join((row["definition"] or "").split())
        if len(definition) > LONGEST:
            raise unreadable
        if name in definitions and definition:
            raise ConfigError(f"{key}: {file} has the type '{name}' twice; keep one of its rows")
        if name and definition:
            definitions[name] = definition
    if not set(types) & set(definitions):
        raise ConfigError(f"{key}: {path} defines none of the types, which are {', '.join(types)}")
    return definitions


def _normalized(mention: str) -> str:
    return " ".join(mention.lower().split())
