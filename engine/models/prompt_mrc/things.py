"""Made-up sentences about things of many kinds, from which a model learns to read what it is asked for.

`things.csv` has a row for each kind: names by which a question may call it, clauses with a place for one, and some of them. No
corpus of reports has as many kinds. The sentences are synthetic: what they teach is to tell kinds apart by their names.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from engine.records import seed_of
from engine.sources.labelled import Document, Span
from engine.sources.labelled.splits import TRAIN

MADE_UP = "made_up"
"""The dataset of such sentences."""

_MOST_CLAUSES = 6
_ENDS = (". ", ". ", "; ", ", ", "\n")
# Words in front of a thing that are no part of its name.
_BARE = re.compile(r"^(?:(?:an?|the|two|in|on|next|last) )+", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    names: tuple[str, ...]
    carriers: tuple[str, ...]
    items: tuple[str, ...]


@cache
def kinds() -> Mapping[str, Kind]:
    """The kinds by type."""
    with Path(__file__).with_name("things.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["type"]: Kind(*(tuple(row[name].split(";")) for name in ("names", "carriers", "items"))) for row in rows}


def made_up(count: int) -> Iterator[Document]:
    """`count` texts of a few clauses, each drawn from its id, with all things in them marked."""
    for number in range(count):
        record_id = f"{MADE_UP}/{number}"
        rng = np.random.default_rng(seed_of(record_id, "things"))
        text, spans = "", []
        for _ in range(int(rng.integers(2, _MOST_CLAUSES + 1))):
            name = str(rng.choice(list(kinds())))
            kind = kinds()[name]
            before, after = str(rng.choice(kind.carriers)).split("{}")
            thing = str(rng.choice(kind.items))
            begins_sentence = not text or text.endswith((". ", "\n"))
            clause = before + thing + after
            start = len(text) + len(before)
            bare = _BARE.match(thing)
            spans.append(Span(start + (bare.end() if bare else 0), start + len(thing), name))
            text += (clause[0].upper() + clause[1:] if begins_sentence else clause) + str(rng.choice(_ENDS))
        yield Document(record_id, text.rstrip(" ,;\n"), tuple(spans), MADE_UP, TRAIN)
