"""Templates made by themselves: a definition from a user's ontology table, and mentions from the training texts as examples.

Mentions are weighed by TF-IDF, how often they are marked times how few texts have them, and of the heaviest the ones that lie
farthest from each other are taken (farthest-point traversal, Gonzalez 1985), so that examples are typical and differ.
"""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.storage import full_path, storage_for

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUDGET = 48
# The table that comes along, by name.
SHIPPED = "pkg:ontology"
_TABLE = Path(__file__).with_name("ontology.csv")
HEAVIEST = 50
# Characters of a definition: a quote that is not closed makes the rest of a table one.
LONGEST = 10_000
Embed = Callable[[Sequence[str]], NDArray]


@dataclass(frozen=True)
class Infused:
    """A template that made itself: its text, what of it is no mention (name and definition), and how many mentions follow."""

    text: str
    head: str
    mentions: int


def read_ontology(path: str, key: str) -> dict[str, str]:
    """Type -> definition, from a CSV file with the columns `type` and `definition`, or from the one that comes along.

    Args:
        key: the setting that names the file, for a message.

    Raises:
        ConfigError: there is no such file, it cannot be read, lacks a column, or has a type twice.
    """
    path = full_path(os.path.expanduser(str(_TABLE) if path == SHIPPED else path))
    try:
        data = storage_for(path).read(path)
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from None
    if data is None:
        raise ConfigError(f"{key}: there is no file {path}")
    unread = ConfigError(f"{key}: {path} is no readable CSV file; look for a quote that is not closed")
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {path} is not UTF-8; convert it first") from None
    except csv.Error:
        raise unread from None
    if not rows or not {"type", "definition"} <= set(rows[0]):
        raise ConfigError(f"{key}: {path} must have the columns type and definition")
    found: dict[str, str] = {}
    for row in rows:
        name, definition = (row["type"] or "").strip(), " ".join((row["definition"] or "").split())
        if len(definition) > LONGEST:
            raise unread
        if name in found and definition:
            raise ConfigError(f"{key}: {path} has the type '{name}' twice; keep one of its rows")
        if name and definition:
            found[name] = definition
    return found


def heaviest(mentions: Sequence[str], texts: Sequence[str], most: int = HEAVIEST) -> list[str]:
    """Distinct mentions by falling weight, count x log(texts / texts that have it); letters' case counts as nothing."""
    counts = Counter(map(_plain, mentions))
    lowered = [text.lower() for text in texts]
    weight = {}
    for mention, count in counts.most_common(4 * most):
        having = max(1, sum(mention in text for text in lowered))
        weight[mention] = count * math.log(max(2, len(texts)) / having + 1e-9)
    return sorted(weight, key=lambda mention: (-weight[mention], mention))[:most]


def _plain(mention: str) -> str:
    return " ".join(mention.lower().split())


def apart(points: NDArray, count: int) -> list[int]:
    """Rows of `points` [n, d]: the first, then each time the one farthest from those taken."""
    taken = [0] if len(points) and count else []
    while len(taken) < min(count, len(points)):
        distance = np.linalg.norm(points[:, None] - points[None, taken], axis=-1).min(axis=1)
        distance[taken] = -1.0
        taken.append(int(distance.argmax()))
    return taken


def infused(
    name: str,
    definition: str | None,
    mentions: Sequence[str],
    texts: Sequence[str],
    embed: Embed,
    tokenizer: "Tokenizer",
    *,
    examples: int = 3,
    budget: int = BUDGET,
) -> Infused:
    """The template of one type, at most `budget` word pieces: examples are left out, then the definition cut, until it fits.

    A mention that has no room even alone behind the definition takes no part, however often it is marked.

    Args:
        mentions, texts: of train alone. embed: texts to rows [n, d].
    """
    head = f"{name.replace('_', ' ')}: {definition}" if definition else name.replace("_", " ")
    opening = f"{head.rstrip('.')}, such as "
    fitting = {each for each in set(map(_plain, mentions)) if each and pieces_of(opening + each, tokenizer) <= budget}
    found = heaviest([each for each in map(_plain, mentions) if each in fitting], texts)
    chosen = [found[place] for place in apart(embed(found), examples)] if found else []
    for count in range(len(chosen), -1, -1):
        text = opening + ", ".join(chosen[:count]) if count else head
        if pieces_of(text, tokenizer) <= budget:
            return Infused(text, head, count)
    head = cut(head, tokenizer, budget)
    return Infused(head, head, 0)


def pieces_of(text: str, tokenizer: "Tokenizer") -> int:
    """How many word pieces a text has."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def cut(text: str, tokenizer: "Tokenizer", budget: int) -> str:
    """The text as far as `budget` word pieces go."""
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= budget else text[: offsets[budget - 1][1]]
