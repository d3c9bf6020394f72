"""The words of the synthetic corpus: sites with their terms and histologies, phrases for histologies, pools of sentences.

All words are our own, from general medical knowledge; no report, name or term list was used. Pools are filled once a process,
always with the same numbers, so that a record's text depends on its seed and number alone.
"""

import csv
import random
from dataclasses import dataclass
from functools import cache
from importlib import resources

VARIANTS = 10
# Groups with their own sentences only, since margins, lymph nodes and fixation in formalin would be nonsense.
_APART = frozenset({"gross/blood", "micro/leukemia", "close/blood", "close/brain", "close/node", "ihc/leukemia"})
SYSTEMIC = frozenset({"blood", "node", "unknown"})
SEXES = {"A": ("male", "female"), "F": ("female",), "M": ("male",)}

_SLOTS = {
    "cm": [f"{n / 10:.1f}" for n in range(3, 96)],
    "mm": [str(n) for n in range(1, 30)] + ["0.4", "0.8", "1.5", "2.5"],
    "gm": [str(n) for n in (4, 8, 15, 22, 38, 51, 76, 112, 180, 265, 340, 480, 615, 820)],
    "n": [str(n) for n in range(1, 13)],
    "n2": [str(n) for n in range(13, 60)],
    "pct": [str(n) for n in (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)],
    "age": [str(n) for n in range(19, 90)],
    "color": ["tan", "gray-white", "red-brown", "yellow", "pink-tan", "white", "black", "blue", "dark brown"],
    "firm": ["firm", "soft", "rubbery", "dense", "friable", "hard"],
    "seen": ["present", "absent", "not identified", "identified focally", "extensive", "indeterminate"],
    "pm": ["positive", "negative", "weakly positive", "focally positive", "+", "-"],
    "grade": ["1", "2", "3", "high", "intermediate"],
}


@dataclass(frozen=True)
class Site:
    """One topography category. `histologies` and `weights` are parallel."""

    code: str
    group: str
    weight: float
    sexes: tuple[str, ...]
    paired: bool
    terms: tuple[str, ...]
    procedures: tuple[str, ...]
    histologies: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Phrases:
    """The wordings of a histology, and the family whose sentences fit it."""

    family: str
    words: tuple[str, ...]


# A filled sentence, its number of words, and its topic: a report should not repeat or contradict itself.
Sentence = tuple[str, int, str]


@cache
def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of the tables beside this file."""
    with resources.files(__package__).joinpath(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))


@cache
def sites() -> tuple[Site, ...]:
    """The 70 categories, in order of code."""
    return tuple(_site(row) for row in rows("sites.csv"))


@cache
def phrases() -> dict[str, Phrases]:
    """Phrases by morphology code, and by `code@site` for the wordings of one site."""
    return {row["code"]: Phrases(row["family"], tuple(row["phrases"].split(";"))) for row in rows("phrases.csv")}


def phrases_for(histology: str, site: str) -> Phrases:
    """The site's own phrases for a histology, else the general ones."""
    return phrases().get(f"{histology}@{site}") or phrases()[histology]


@cache
def pool(kind: str, *keys: str) -> tuple[Sentence, ...]:
    """Filled sentences of a kind for these groups or families, with the general ones if they make sense."""
    special = [row for row in _rows(kind) if row["key"] in keys]
    general = [] if _APART & {f"{kind}/{key}" for key in keys} else [row for row in _rows(kind) if row["key"] == "*"]
    # A group has few sentences of its own, so they count three times.
    return _fill(general + special * 3, "/".join((kind, *keys)))


@cache
def history(sex: str) -> tuple[Sentence, ...]:
    """Opening lines about a patient of this sex."""
    return _fill(_rows("history"), f"history/{sex}", {"sex": [sex, sex, sex[0].upper()]})


@cache
def elsewhere(code: str, sex: str) -> tuple[Sentence, ...]:
    """Distractors: sentences that name organs of other categories that this sex has."""
    same = {term for site in sites() if site.code == code for term in site.terms}
    terms = [term for other, term in _organs(sex) if other != code and not any(term in t or t in term for t in same)]
    slots = {"other": terms, "Other": [term[0].upper() + term[1:] for term in terms]}
    return _fill(_rows("away") * 4, f"away/{code}/{sex}", slots)


@cache
def _organs(sex: str) -> tuple[tuple[str, str], ...]:
    """The first terms of each category that names an organ of this sex."""
    named = [s for s in sites() if s.group not in SYSTEMIC and sex in s.sexes]
    return tuple((s.code, term) for s in named for term in s.terms[:2] if "not stated" not in term)


@cache
def _rows(kind: str) -> list[dict[str, str]]:
    return [row for row in rows("sentences.csv") if row["kind"] == kind]


def _fill(templates: list[dict[str, str]], name: str, more: dict[str, list[str]] | None = None) -> tuple[Sentence, ...]:
    """Each template several times with its slots filled, from a random stream of the pool's own."""
    rng, slots, filled = random.Random(name), _SLOTS | (more or {}), {}
    for template in templates * VARIANTS:
        parts = template["text"].split("{")
        for at, part in enumerate(parts[1:], 1):
            slot, rest = part.split("}", 1)
            parts[at] = slots[slot][int(rng.random() * len(slots[slot]))] + rest
        sentence = "".join(parts)
        filled[sentence[0].upper() + sentence[1:]] = template["topic"] or template["text"]
    return tuple((sentence, len(sentence.split()), topic) for sentence, topic in filled.items())


def _site(row: dict[str, str]) -> Site:
    codes, weights = zip(*(item.split(":") for item in row["histologies"].split()), strict=True)
    return Site(
        code=row["code"],
        group=row["group"],
        weight=float(row["weight"]),
        sexes=SEXES[row["sex"]],
        paired=row["paired"] == "1",
        terms=tuple(row["terms"].split(";")),
        procedures=tuple(row["procedures"].split(";")),
        histologies=codes,
        weights=tuple(map(float, weights)),
    )
