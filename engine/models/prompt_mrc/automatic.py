"""Templates made from a user's ontology table and the training data: a definition, and three mentions that tell the most.

Mentions are ranked by TF-IDF over types, each type's mentions being one document, so that words that only one type has count
most. Of the best ranked, the first is taken, and then twice the one farthest from those taken by the cosine of MiniLM's mean
states (farthest-point sampling, Gonzalez 1985), so that examples do not say the same. The text ends at a budget of word pieces.
No test data takes part.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.encoders import encoder_folder, load_encoder, load_tokenizer, special_ids
from engine.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUDGET = 48
EXAMPLES = 3
_CANDIDATES = 50
_COLUMNS = ("type", "name", "definition")


@dataclass(frozen=True)
class Term:
    """What an ontology says of a type."""

    name: str
    definition: str


def read_ontology(path: Path) -> dict[str, Term]:
    """A CSV table with the columns type, name and definition, a row each type.

    Raises:
        ConfigError: it cannot be read, lacks a column, or has a type twice.
    """
    found: dict[str, Term] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"ontology: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"ontology: {path} is no readable CSV file in UTF-8") from None
    for row in rows:
        if any(not (row.get(name) or "").strip() for name in _COLUMNS):
            raise ConfigError(f"ontology: {path} wants the columns {', '.join(_COLUMNS)}, filled in every row")
        if row["type"] in found:
            raise ConfigError(f"ontology: {path} has the type '{row['type']}' twice")
        found[row["type"]] = Term(row["name"].strip(), row["definition"].strip())
    return found


def automatic(
    types: Sequence[str], ontology: Mapping[str, Term], mentions: Mapping[str, Sequence[str]], budget: int = BUDGET
) -> dict[str, str]:
    """A template for each type, within `budget` word pieces of MiniLM's tokenizer.

    Args:
        mentions: each type's mentions in the training data, as they stand there, one an occurrence.
    Raises:
        ConfigError: the ontology lacks a type.
    """
    missing = [name for name in types if name not in ontology]
    if missing:
        raise ConfigError(f"ontology: there is no type '{missing[0]}'; it has {', '.join(ontology)}")
    tokenizer = load_tokenizer(encoder_folder("pkg:minilm"))
    ranked = _ranked({name: mentions.get(name, ()) for name in types})
    return {name: _within(ontology[name], farthest(ranked[name], tokenizer), tokenizer, budget) for name in types}


def _ranked(mentions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each type's different mentions, those whose words are most its own first."""
    words = {name: Counter(word for text in texts for word in text.lower().split()) for name, texts in mentions.items()}
    types_with = Counter(word for counts in words.values() for word in counts)
    found = {}
    for name, texts in mentions.items():
        total = sum(words[name].values())

        def weight(text: str, counts: Counter = words[name], total: int = total) -> float:
            parts = text.lower().split()
            idf = [np.log((1 + len(words)) / (1 + types_with[part])) + 1 for part in parts]
            return sum(counts[part] / total * value for part, value in zip(parts, idf, strict=True)) / max(1, len(parts))

        found[name] = sorted({text for text in texts if text.strip()}, key=lambda text: (-weight(text), text))
    return found


def farthest(ranked: Sequence[str], tokenizer: "Tokenizer", count: int = EXAMPLES) -> list[str]:
    """The first of some ranked mentions, and those that lie farthest from the ones taken."""
    some = list(ranked[:_CANDIDATES])
    if len(some) <= count:
        return some
    vectors = _embedded(some, tokenizer)
    near = vectors @ vectors.T
    taken = [0]
    while len(taken) < count:
        closest = near[:, taken].max(1)
        closest[taken] = np.inf
        taken.append(int(closest.argmin()))
    return [some[place] for place in taken]


def _embedded(texts: Sequence[str], tokenizer: "Tokenizer") -> np.ndarray:
    """Unit vectors [n, d]: means of MiniLM's last states over a text's tokens, special ones included as it was trained."""
    import torch

    cls, sep, pad, _ = special_ids(tokenizer)
    rows = [[cls, *encoding.ids, sep] for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    encoder = load_encoder("pkg:minilm", torch.float32, "eager")
    with torch.inference_mode():
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    means = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(means, dim=-1).numpy()


def _within(term: Term, examples: Sequence[str], tokenizer: "Tokenizer", budget: int) -> str:
    """Name, definition and examples; what goes beyond the budget is left out from the definition's end, word by word."""

    def said(definition: str) -> str:
        shown = f" Examples: {', '.join(examples)}." if examples else ""
        return f"{term.name}: {definition.rstrip('.')}.{shown}" if definition else f"{term.name}.{shown}"

    words = term.definition.split()
    while words and len(tokenizer.encode(said(" ".join(words)), add_special_tokens=False).ids) > budget:
        words.pop()
    text = said(" ".join(words))
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return text if len(encoding.ids) <= budget else text[: encoding.offsets[budget - 1][1]]
