"""Words put into a text at a known place, and how well spans of evidence find them there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Span = tuple[int, int]
_GAP = re.compile(r"(?<=\S)(?=\s|\Z)")


@dataclass(frozen=True)
class Shown:
    """A model's answer to one text, the spans it shows as evidence, strongest first, and the text's words [words]."""

    code: str
    spans: Sequence[Span]
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Look:
    """How a text's evidence meets the words planted in it.

    `top`: the strongest span touches them; `whole`: it covers them all; `any_span`: a span touches them. `chance` is the share of
    all positions at which a span of as many words (`words`) would touch them, which is the exact random control. Without
    evidence, all are False or 0.
    """

    top: bool = False
    whole: bool = False
    any_span: bool = False
    chance: float = 0.0
    words: int = 0


def plant(text: str, phrase: str, rng: np.random.Generator) -> tuple[str, Span]:
    """The text with the phrase between two of its words, before the first or after the last, and where it stands now."""
    gaps = [0, *(match.start() for match in _GAP.finditer(text))]
    at = gaps[int(rng.integers(len(gaps)))]
    if at == 0:
        return (f"{phrase} {text}" if text else phrase), (0, len(phrase))
    return f"{text[:at]} {phrase}{text[at:]}", (at + 1, at + 1 + len(phrase))


def stamp(text: str, mark: str, rng: np.random.Generator) -> tuple[str, Span]:
    """The text with the mark on a line of its own, at the head or at the foot."""
    if rng.random() < 0.5:
        return f"{mark}\n{text}", (0, len(mark))
    return f"{text}\n{mark}", (len(text) + 1, len(text) + 1 + len(mark))


def look(shown: Shown, planted: Span) -> Look:
    """Compares the evidence with the planted words."""
    if not shown.spans:
        return Look()
    first, (start, end) = shown.spans[0], planted
    is_planted, words = (((shown.starts < span[1]) & (span[0] < shown.ends)) for span in (planted, first))
    any_span = any(touches(span, planted) for span in shown.spans)
    count = int(words.sum())
    return Look(touches(first, planted), first[0] <= start and end <= first[1], any_span, chance(is_planted, count), count)


def touches(one: Span, other: Span) -> bool:
    """Whether two half-open spans share a character."""
    return one[0] < other[1] and other[0] < one[1]


def chance(planted: np.ndarray, words: int) -> float:
    """Share of the runs of `words` neighbouring words that hold one of the planted ones, flags [words of the text]."""
    runs = len(planted) - words + 1
    if words < 1 or runs < 1:
        return 0.0
    before = np.concatenate([[0], np.cumsum(planted)])
    return float(np.mean(before[words:] > before[:-words]))
