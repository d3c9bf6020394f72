"""The spans that windows give, and which of them are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from engine.errors import ConfigError
from engine.models.entities.spans import MAX_WORDS, Window

FLOOR = 0.1
"""The lowest threshold that is tried; every candidate from which thresholds are tuned must pass it."""

OFFSETS = (0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 3.0)
"""Values that are tried as a tagger's `outside`; of equally good ones the first is taken."""

# A text's number, a word of it, and the type that seems to begin there.
Start = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A span from one window: words `first` to `last` of text number `text`, both included.

    `tokens` are its first and its last one, counted from the window's start, token `window` of the text. `edge`: the span touches
    an end of the window where the text goes on. `margin` is how far the model prefers the type to `rival`, the best other type of
    the same span; both None where no other type is compared. `zero_shot`: the type was not trained. `outside` is that of the
    decoding under which a tagger found it.
    """

    text: int
    type: int
    first: int
    last: int
    score: float
    tokens: tuple[int, int]
    window: int
    edge: bool
    margin: float | None = None
    rival: int | None = None
    zero_shot: bool = False
    outside: float = 0.0

    # Numbers that a system's candidates have beside these; columns of the table `entities`.
    further: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, window: Window, kind: int, tokens: tuple[int, int], score: float, **more: Any) -> Self:
        """The candidate from the first to the last of two tokens of a window."""
        first, last = (int(window.word[token]) for token in tokens)
        return cls(window.text, kind, first, last, score, tokens, window.start, window.cuts(*tokens), **more)

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells the spans of a text apart."""
        return self.first, self.last, self.type

    def overlaps(self, other: "Candidate") -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Decoding:
    """Which spans may overlap, and the words of the `longest` span; a system adds its thresholds.

    `nested` keeps all spans, also of several types at one place; without it spans of one type do not overlap, and with
    `flat_across_types` no spans at all do, and a span whose place another type claims is dropped.
    """

    nested: bool = True
    flat_across_types: bool = False
    longest: int = MAX_WORDS

    # The thresholds, each with the attribute of a candidate that must lie above it, and whether spans can nest at all.
    thresholds: ClassVar[Mapping[str, str]]
    can_nest: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not all(0 < getattr(self, name) < 1 for name in self.thresholds):
            raise ConfigError("decoding: thresholds must lie between 0 and 1")
        if not 1 <= self.longest <= MAX_WORDS:
            raise ConfigError(f"decoding: longest must lie between 1 and {MAX_WORDS}")
        if self.nested and self.flat_across_types:
            raise ConfigError("nested spans and flat_across_types exclude each other; set one of the two to false")

    @property
    def overlaps(self) -> str:
        """Which spans may overlap, in words."""
        return "nested" if self.nested else "flat" if self.flat_across_types else "flat within each type"

    @property
    def tuned(self) -> tuple[str, ...]:
        """The numbers that are tuned on valid."""
        return tuple(self.thresholds)

    def passes(self, span: Candidate) -> bool:
        """Whether a span passes the thresholds."""
        return all(getattr(span, score) > getattr(self, name) for name, score in self.thresholds.items())

    def floor(self) -> Self:
        """The decoding with the lowest thresholds that are tried."""
        return replace(self, **dict.fromkeys(self.thresholds, FLOOR - 1e-6))

    def variants(self) -> list[Self]:
        """The decoding itself, then others to be tried whose candidates are not among its own."""
        return [self]

    def alternatives(self) -> list[Self]:
        """The decoding itself, then those that differ from it in which spans may overlap."""
        flat = replace(self, nested=False, flat_across_types=True)
        nested = [replace(self, nested=True, flat_across_types=False)] if self.can_nest else []
        return list(dict.fromkeys([self, flat, *nested]))


class TagDecoding(Decoding):
    """The decoding of a tagger, which has a field `outside`: it is subtracted from the score of "no mention" before tags are
    chosen, so that more is found."""

    can_nest = False

    @property
    def tuned(self) -> tuple[str, ...]:
        return *self.thresholds, "outside"

    def passes(self, span: Candidate) -> bool:
        return span.outside == self.outside and super().passes(span)

    def variants(self) -> list[Self]:
        return [replace(self, outside=offset) for offset in dict.fromkeys((self.outside, *OFFSETS))]


def select(spans: Sequence[Candidate], decoding: Decoding) -> list[Candidate]:
    """The spans of one text that are kept, in its order. Equal ones from several windows count once: the best one seen whole.

    With `flat_across_types` a span whose place another type claims is dropped, and of overlapping ones the better score is kept.

    A span at the edge of its window, which may have been cut there, gives way to any span of its type that overlaps it and that
    another window saw whole, whatever the scores. Of two overlapping edge spans from different windows the better one is kept.
    """
    best: dict[tuple[int, int, int], Candidate] = {}
    for span in spans:
        if span.key not in best or _rank(span) > _rank(best[span.key]):
            best[span.key] = span
    if decoding.flat_across_types:
        best = {key: span for key, span in best.items() if span.margin is None or span.margin >= 0}
    whole = [span for span in best.values() if not span.edge]
    left = [span for span in best.values() if not (span.edge and any(_same_from_elsewhere(span, other) for other in whole))]
    kept: list[Candidate] = []
    for span in sorted(left, key=lambda span: (-span.score, *span.key)):
        if not any(exclude(span, other, decoding) for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.key)


def exclude(span: Candidate, other: Candidate, decoding: Decoding) -> bool:
    """Whether only one of two spans of a text can be kept. Types that were not trained compete among themselves."""
    if not span.overlaps(other):
        return False
    if decoding.flat_across_types and span.zero_shot == other.zero_shot:
        return True
    if span.type == other.type and not decoding.nested:
        return True
    return span.edge and other.edge and _same_from_elsewhere(span, other)


def _rank(span: Candidate) -> tuple[bool, float, int]:
    return not span.edge, span.score, -span.window


def _same_from_elsewhere(span: Candidate, other: Candidate) -> bool:
    """Whether two spans of different windows may be the same entity."""
    return span.type == other.type and span.window != other.window and span.overlaps(other)
