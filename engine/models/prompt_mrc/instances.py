"""Texts with marked spans to what the network learns from: windows, and in each the words where entities begin and end.

Everything is said in words, as the tokenizer's pre-tokenizer parts them: a span is (first word, last word, type), and characters
come back from the words' offsets. A marked span whose ends lie inside words is widened to whole ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.text.tokens import TokenizedText
from engine.text.windows import overlapping_bounds

# Tags of a type in the tagger's outputs.
OUTSIDE, BEGIN, INSIDE = 0, 1, 2


@dataclass(frozen=True)
class Span:
    """An entity: words from `first` to `last`, both in it, and the number of its type."""

    first: int
    last: int
    type: int


@dataclass
class Marked:
    """A text's spans in words, and what became of those that were marked.

    `snapped` were widened to whole words, `unread` lie beyond what was read of the text, `repeated` are equal to another.
    `overlapping` are those of train that `flat` leaves out, where a model's spans must not overlap.
    """

    spans: list[Span] = field(default_factory=list)
    snapped: int = 0
    unread: int = 0
    repeated: int = 0
    overlapping: int = 0


def marked(
    tokens: TokenizedText, length: int, spans: Iterable[Mapping[str, Any]], types: Sequence[str], name: str = "a text"
) -> Marked:
    """Marked characters (`start`, `end`, `type`) to words; types that are not in `types` are left out.

    Args:
        length: characters of the text. name: what an error calls it, such as its id.
    Raises:
        ConfigError: a span is empty or not within the text.
    """
    found, numbers = Marked(), {each: number for number, each in enumerate(types)}
    known: set[Span] = set()
    for span in spans:
        start, end = span["start"], span["end"]
        if not 0 <= start < end <= length:
            raise ConfigError(f"{name}: a span from {start} to {end} does not fit a text of {length} characters")
        if span["type"] not in numbers:
            continue
        first = int(np.searchsorted(tokens.word_end, start, side="right"))
        last = int(np.searchsorted(tokens.word_start, end, side="left")) - 1
        if first > last:
            found.unread += 1
            continue
        if tokens.truncated_chars and end > tokens.word_end[-1]:
            found.unread += 1
            continue
        here = Span(first, last, numbers[span["type"]])
        found.snapped += (int(tokens.word_start[first]), int(tokens.word_end[last])) != (start, end)
        if here in known:
            found.repeated += 1
            continue
        known.add(here)
        found.spans.append(here)
    return found


def flat(spans: Sequence[Span], across: bool = False) -> list[Span]:
    """Spans without overlap within a type, or `across` all types: the longest first."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.first - each.last, each.first)):
        rivals = kept if across else [each for each in kept if each.type == span.type]
        if all(span.last < other.first or other.last < span.first for other in rivals):
            kept.append(span)
    return sorted(kept, key=lambda each: (each.first, each.last, each.type))


@dataclass(frozen=True)
class Window:
    """A part of a text: tokens from `start` to `stop` (half open) of text number `text`.

    `starts` and `ends` are flags of its tokens: the first piece of a word, and the last one. `word` [tokens] is the number of
    each token's word.
    """

    text: int
    start: int
    stop: int
    ids: np.ndarray
    word: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    is_first: bool
    is_last: bool

    def __len__(self) -> int:
        return self.stop - self.start

    def cuts(self, first: int, last: int) -> bool:
        """Whether a span from token `first` to `last` touches an end of the window where the text goes on."""
        return (first == 0 and not self.is_first) or (last == len(self) - 1 and not self.is_last)


def windows(text: int, ids: np.ndarray, word_of_token: np.ndarray, size: int, overlap: int) -> list[Window]:
    """The windows of a text."""
    if not len(ids):
        return []
    opens = np.r_[True, word_of_token[1:] != word_of_token[:-1]]
    closes = np.r_[opens[1:], True]
    bounds = overlapping_bounds(word_of_token, size, overlap)
    return [
        Window(text, a, b, ids[a:b], word_of_token[a:b], opens[a:b], closes[a:b], number == 0, number == len(bounds) - 1)
        for number, (a, b) in enumerate(bounds)
    ]


def inside(window: Window, spans: Sequence[Span]) -> list[tuple[int, int, int]]:
    """Spans that a window holds whole, as (first token, last token, type) within it; one that it cuts is no answer there."""
    found = []
    for span in spans:
        first = np.flatnonzero((window.word == span.first) & window.starts)
        last = np.flatnonzero((window.word == span.last) & window.ends)
        if len(first) and len(last):
            found.append((int(first[0]), int(last[0]), span.type))
    return found


def tags(window: Window, spans: Sequence[Span], types: int) -> np.ndarray:
    """BIO tags [tokens, types] of a window for the tagger, from `flat` spans; a word's later pieces are inside like the word.

    A span that begins before the window is left out, as in `inside`.
    """
    found = np.zeros((len(window), types), np.int64)
    for first, last, kind in inside(window, spans):
        found[first : last + 1, kind] = INSIDE
        found[first, kind] = BEGIN
    return found


def chosen_types(
    present: Iterable[int], types: int, negatives: int, rng: np.random.Generator, known: Iterable[int] | None = None
) -> list[int]:
    """Types that a window is asked for in training: those it has, and `negatives` others for each (for one, if it has none).

    `known` are the types that were marked in its corpus, all where None: of another one nobody knows whether the text has it.
    """
    has = sorted(set(present))
    others = np.setdiff1d(np.arange(types) if known is None else sorted(known), has)
    count = min(len(others), negatives * max(1, len(has)))
    return sorted([*has, *rng.choice(others, count, replace=False).tolist()])
