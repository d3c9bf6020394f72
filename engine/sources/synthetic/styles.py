"""The writing styles, read from `templates.json` once a process.

A template is text with slots in braces. `{ls}` and `{Ls}` write laterality and site term, `{h}` and `{H}` the histology; these
pieces become the gold evidence. `{gross}`, `{micro}`, `{close}` and `{away}` take as many sentences as the length allows. The
other slots are small facts of the case, or another template (`{dx}`, `{label}`).
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate

Parts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Style:
    """One way to write, for texts of a `length`: very short, short or full.

    `core` is its usual number of words without sentences, `shares` divides the room for sentences among the slots, `noise`
    changes the finished text.
    """

    name: str
    length: str
    weight: int
    core: int
    noise: str
    shares: dict[str, float]
    alternatives: tuple[Parts, ...]


@dataclass(frozen=True)
class Templates:
    """All of `templates.json`. `small` is drawn at each use, `facts` once a report; `dx` and `label` go by kind of case."""

    small: dict[str, tuple[str, ...]]
    facts: dict[str, tuple[str, ...]]
    spread_not: dict[str, str]
    dx: dict[str, tuple[Parts, ...]]
    label: dict[str, tuple[Parts, ...]]
    styles: tuple[Style, ...]


@cache
def templates() -> Templates:
    """The templates, compiled."""
    raw = json.loads(resources.files(__package__).joinpath("templates.json").read_text(encoding="utf-8"))
    return Templates(
        small={name: tuple(texts) for name, texts in raw["small"].items()},
        facts={name: tuple(texts) for name, texts in raw["facts"].items()},
        spread_not=raw["spread_not"],
        dx={kind: tuple(map(_compile, texts)) for kind, texts in raw["dx"].items()},
        label={kind: tuple(map(_compile, texts)) for kind, texts in raw["label"].items()},
        styles=tuple(map(_style, raw["styles"])),
    )


@cache
def styles_for(length: str, metastatic: bool) -> tuple[tuple[Style, ...], tuple[float, ...]]:
    """The styles for texts of this length, and their cumulative weights."""
    # A checklist states the organ of origin, so a metastasis does not fit.
    fits = [s for s in templates().styles if s.length == length and not (metastatic and s.name == "synoptic")]
    return tuple(fits), cumulative([s.weight for s in fits])


def cumulative(weights: list[float]) -> tuple[float, ...]:
    """Running shares of the whole; the last is exactly 1."""
    sums = list(accumulate(weights))
    return tuple(s / sums[-1] for s in sums)


def _style(raw: dict) -> Style:
    return Style(**raw | {"alternatives": tuple(_compile("".join(lines)) for lines in raw["alternatives"])})


def _compile(text: str) -> Parts:
    """Pairs of a literal and the slot after it."""
    parts = [*re.split(r"\{(\w+)\}", text), ""]
    return tuple(zip(parts[::2], parts[1::2], strict=True))
