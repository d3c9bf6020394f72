"""Marked characters to spans of words, and texts to windows of tokens that hold such spans.

Spans are counted in words, as the tokenizer's pre-tokenizer separates them; the words' offsets lead back to characters. A marked
span that begins or ends within a word is widened to the whole word.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import ConfigError
from engine.models import tokens
from engine.text.tokens import TokenizedText
from engine.text.windows import overlapping_bounds

if TYPE_CHECKING:
    from engine.models.tokens import Batch

# A type's tags in the outputs of a tagger.
OUTSIDE, BEGIN, INSIDE = 0, 1, 2
# Words of the longest span that a model learns or finds.
MAX_WORDS = 30


@dataclass(frozen=True)
class Span:
    """An entity: its `first` and `last` word, both included, and the number of its type."""

    first: int
    last: int
    type: int


def align_spans(
    tokens: TokenizedText, length: int, spans: Iterable[Mapping[str, Any]], types: Sequence[str], name: str = "a text"
) -> tuple[list[Span], Counter[str]]:
    """Marked characters (`start`, `end`, `type`) to words; other types than `types` are left out.

    Args:
        length: characters of the text. name: of the text, for messages.
    Returns:
        The distinct spans, and how many marked ones were `snapped` to whole words, `unread` because they lie beyond the tokens,
        and `repeated`.
    Raises:
        ConfigError: a span is empty or does not lie within the text.
    """
    aligned: dict[Span, None] = {}
    counts: Counter[str] = Counter()
    for span in spans:
        start, end = span["start"], span["end"]
        if not 0 <= start < end <= length:
            raise ConfigError(f"{name}: a span from {start} to {end} does not fit a text of {length} characters")
        if span["type"] not in types:
            continue
        first = int(np.searchsorted(tokens.word_end, start, side="right"))
        last = int(np.searchsorted(tokens.word_start, end, side="left")) - 1
        if first > last or (tokens.truncated_chars and end > tokens.word_end[-1]):
            counts["unread"] += 1
            continue
        words = Span(first, last, types.index(span["type"]))
        counts["snapped"] += (int(tokens.word_start[first]), int(tokens.word_end[last])) != (start, end)
        counts["repeated"] += words in aligned
        aligned[words] = None
    return list(aligned), counts


def without_overlaps(spans: Sequence[Span], across_types: bool = False) -> list[Span]:
    """The spans without those that overlap a longer one of their type, or `across_types` of any type."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.first - span.last, span.first)):
        rivals = kept if across_types else [other for other in kept if other.type == span.type]
        if all(span.last < other.first or other.last < span.first for other in rivals):
            kept.append(span)
    return sorted(kept, key=lambda span: (span.first, span.last, span.type))


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` (half open) of the text with the number `text`.

    Per token: its id, the number of its `word`, whether it is the first (`starts`) or the last piece (`ends`) of that word, and
    the number of its `part` of the text (see `engine.text.sentences.parts`), which no span leaves.
    """

    text: int
    start: int
    stop: int
    ids: np.ndarray
    word: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    part: np.ndarray
    is_first: bool
    is_last: bool

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """The first token, and the last one that the window has, of each word that begins in it."""
        first = np.flatnonzero(self.starts)
        return first, np.r_[first[1:], len(self)][: len(first)] - 1

    def cuts(self, first: int, last: int) -> bool:
        """Whether a span from token `first` to `last` touches an end of the window where the text goes on."""
        return (first == 0 and not self.is_first) or (last == len(self) - 1 and not self.is_last)


def windows(
    text: int, ids: np.ndarray, word_of_token: np.ndarray, size: int, overlap: int, word_part: np.ndarray | None = None
) -> list[Window]:
    """The windows of a text: at most `size` tokens each, of which neighbours share about `overlap`.

    Args:
        word_part: number of the part of each word; without it all is one part.
    """
    if not len(ids):
        return []
    parts = np.zeros(len(ids), np.int32) if word_part is None else word_part[word_of_token]
    opens = np.r_[True, word_of_token[1:] != word_of_token[:-1]]
    closes = np.r_[opens[1:], True]
    bounds = overlapping_bounds(word_of_token, size, overlap)
    columns = ids, word_of_token, opens, closes, parts
    return [
        Window(text, a, b, *(column[a:b] for column in columns), is_first=number == 0, is_last=number == len(bounds) - 1)
        for number, (a, b) in enumerate(bounds)
    ]


def spans_within(window: Window, spans: Sequence[Span]) -> list[tuple[int, int, int]]:
    """The spans that a window holds whole, as (first token, last token, type) within it; one that it cuts is no answer there."""
    held = []
    for span in spans:
        first = np.flatnonzero((window.word == span.first) & window.starts)
        last = np.flatnonzero((window.word == span.last) & window.ends)
        if len(first) and len(last):
            held.append((int(first[0]), int(last[0]), span.type))
    return held


def bio_tags(window: Window, spans: Sequence[Span], types: int) -> np.ndarray:
    """BIO tags [tokens, types] of a window, from spans `without_overlaps`; the later pieces of a word are inside.

    A span that the window does not hold whole is left out, as in `spans_within`.
    """
    tags = np.zeros((len(window), types), np.int64)
    for first, last, kind in spans_within(window, spans):
        tags[first : last + 1, kind] = INSIDE
        tags[first, kind] = BEGIN
    return tags


def runs(labels: np.ndarray, parts: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Spans (first, last) of a type's BIO tags [words], each within one of `parts` [words] and of at most `longest` words. An I
    without a B before it in its part begins a span, as is usual."""
    found: list[tuple[int, int]] = []
    begin = -1
    for place, label in enumerate([*labels.tolist(), OUTSIDE]):
        if begin >= 0 and (label != INSIDE or parts[place] != parts[begin]):
            found.append((begin, place - 1))
            begin = -1
        if label == BEGIN or (label == INSIDE and begin < 0):
            begin = place
    return [(first, last) for first, last in found if last - first < longest]


def collate(windows: Sequence[Window], special: tuple[int, int, int, int]) -> "Batch":
    """Windows as a batch, each as [CLS] tokens [SEP]."""
    return tokens.collate(
        range(len(windows)),
        [window.ids for window in windows],
        window=max(map(len, windows), default=0),
        special=special,
        chosen=[[(0, len(window))] for window in windows],
    )
