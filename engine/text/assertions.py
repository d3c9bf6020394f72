"""How a text asserts the things that it names: affirmed, negated, uncertain, historical, or of a relative.

After ConText (Harkema et al., J Biomed Inform 2009): cues such as `no evidence of` have a scope within their sentence, forward
or backward, that other words end; the scope of a heading such as `Clinical history:` ends at the next part of a report. The
lexicon of a language is a file beside this one, with the kind, scope and reach in words of each cue (no reach: to the end of the
sentence; `clause`: no further than a comma). The English one extends medspaCy's (MIT, `LICENSE.medspacy`) with the wording of
pathology reports. The Chinese one has simplified and traditional forms; its full-width marks stand for both widths. The lexicon
of a kind of report, such as `en-chest` for chest radiographs, is that of its language with other meanings for the phrases that it
lists.
"""

import csv
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from operator import itemgetter
from typing import NamedTuple

from engine.text.phrases import Match, Phrases, Reading
from engine.text.sentences import sentences
from engine.text.units import CJK

AFFIRMED, NEGATED, UNCERTAIN, HISTORICAL, RELATIVE = KINDS = ("affirmed", "negated", "uncertain", "historical", "relative")
# If a word is in several scopes, the first of these kinds counts.
_ORDER = (NEGATED, RELATIVE, HISTORICAL, UNCERTAIN)
_FORWARD, _BACKWARD, _VALUE, _END, _SECTION, _PART = "forward", "backward", "value", "end", "section", "part"
_CLAUSE = "clause"
# The longest scope in words of a heading unless the lexicon has another, and of a cue.
_SECTION_WORDS, _FAR = 60, 100
_START = itemgetter(0)

# The end of a heading's scope: an empty line, or the line before another heading.
_BELOW = re.compile(rf"(?<=\S)[ \t\r]*\n(?=[ \t\r]*\n|[ \t]*(?:[A-Z][\w /&-]{{2,30}}:|【|[{CJK}][\w/（）]{{1,15}}[:：]))")
_HEADING_AT_MOST = 40
_APART = re.compile(r"(?:[:：=|][ \t]*|[ \t]{3,}|\t[ \t]*|\.{3,}[ \t]*)\Z")
_COLONS, _COMMAS, _HALF_WIDTH = (":", "：", "】"), (",", "，"), str.maketrans("，：？（）", ",:?()")
_GAP_AT_MOST, _DECIMALS = 40, re.compile(r"[.,]\d")
_COLON, _ALONE = re.compile(r"(?:\(s\))?[ \t]*[:：】]"), re.compile(r"(?:\(s\))?\.(?=\s|$)")
_BLANK = re.compile(r"[^\S\n]*(?:\n|$)")


class Scope(NamedTuple):
    """Where a cue or heading says something: of what lies in `start` to `end`. The cue itself stands at `cue_start` to `cue_end`;
    both half-open, in words of a reading or in characters of a text."""

    start: int
    end: int
    kind: str
    cue_start: int
    cue_end: int


class Scopes:
    """The scopes of one text, from which follows what is said of any span, in the scopes' unit."""

    def __init__(self, scopes: Iterable[Scope]) -> None:
        self._scopes = sorted(scopes)
        self._longest = max((scope.end - scope.start for scope in self._scopes), default=0)

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._scopes)

    def of(self, start: int, end: int) -> Scope | None:
        """The scope that decides what is said of a span (half-open); None if it is affirmed."""
        near = (bisect_left(self._scopes, start - self._longest, key=_START), bisect_right(self._scopes, start, key=_START))
        holding = [scope for scope in self._scopes[slice(*near)] if end <= scope.end]
        # The nearest cue of a kind counts.
        return min(holding, key=lambda each: (_ORDER.index(each.kind), abs(each.cue_start - start)), default=None)

    def columns(self, start: int, end: int) -> dict[str, str | int | None]:
        """The same as columns of a table: `assertion`, and `cue_start` and `cue_end`, null if it is affirmed."""
        scope = self.of(start, end)
        kind, *cue = (AFFIRMED, None, None) if scope is None else (scope.kind, scope.cue_start, scope.cue_end)
        return dict(zip(("assertion", "cue_start", "cue_end"), (kind, *cue), strict=True))


@dataclass(frozen=True)
class Assertion:
    """One of `KINDS`, and the words of the reading that say so (`first` to `stop`, half-open; None if affirmed), with the cue as
    in the lexicon."""

    kind: str
    first: int | None = None
    stop: int | None = None
    cue: str | None = None


class _Cue(NamedTuple):
    kind: str
    scope: str
    reach: int | None = None
    clause: bool = False


class Asserted:
    """The assertions of one text, in a language with a lexicon. `sentence` is the number of the sentence of each word."""

    def __init__(self, reading: Reading, language: str = "en") -> None:
        self._reading, self._words = reading, reading.words
        cues, headings = _lexicon(language)
        self.sentence = sentences(reading)
        scopes: list[Scope] = []
        matches, sections = cues.find(reading), headings.find(reading)
        # The cue of a lexicon at the words of a text.
        self._cues = {(match.first, match.stop): match.phrase for match in (*sections, *matches)}
        ends = [match.first for match in matches if any(cue.scope == _END for cue in match.value)]
        for match in matches:
            for cue in match.value:
                if cue.scope == _FORWARD:
                    scope = match.stop, self._forward(match, cue, ends)
                elif cue.scope == _BACKWARD or (cue.scope == _VALUE and _is_value(reading, match)):
                    scope = self._backward(match, cue, ends), match.first
                else:
                    continue
                scopes.append(Scope(*scope, cue.kind, match.first, match.stop))
        scopes += _sections(reading, sections)
        self._scopes = Scopes(scope for scope in scopes if scope.start < scope.end)

    def of(self, first: int, stop: int) -> Assertion:
        """The assertion of the words `first` to `stop` of the reading (half-open)."""
        scope = self._scopes.of(first, stop)
        if scope is None:
            return Assertion(AFFIRMED)
        cue = scope.cue_start, scope.cue_end
        return Assertion(scope.kind, *cue, self._cues[cue])

    def in_characters(self) -> Scopes:
        """The same scopes in characters of the original text."""
        places = self._reading.places
        return Scopes(
            Scope(*places(scope.start, scope.end), scope.kind, *places(scope.cue_start, scope.cue_end)) for scope in self._scopes
        )

    def _forward(self, cue: Match, way: _Cue, ends: Sequence[int]) -> int:
        """The end of a cue's scope: of its sentence or clause, at a word that ends scopes, or before a field's value."""
        words, stop = self._words, cue.stop
        # A cue across a line end belongs to the second line.
        same = bisect_right(self.sentence, self.sentence[cue.stop - 1])
        end = ends[at] if (at := bisect_right(ends, cue.first)) < len(ends) else len(words)
        end = min(end, same, stop + (way.reach or _FAR))
        while stop < end:
            # `Invasion: no Histologic type: carcinoma` on one line; but `negative for the following: carcinoma`.
            if words[stop] in _COLONS and stop > cue.stop and words[stop - 1] not in ("following", "of", "for"):
                break
            if way.clause and words[stop] in _COMMAS:
                break
            stop += 1
        return stop

    def _backward(self, cue: Match, way: _Cue, ends: Sequence[int]) -> int:
        """The beginning of a backward cue's scope."""
        sentence, begin = self.sentence, cue.first
        least = max(0, begin - (way.reach or _FAR))
        if (at := bisect_right(ends, begin - 1)) and ends[at - 1] >= least:
            least = ends[at - 1] + 1
        while begin > least and sentence[begin - 1] == sentence[cue.first]:
            # A value belongs to its own field only.
            if self._words[begin - 1] in _COLONS and begin < cue.first:
                break
            if way.clause and self._words[begin - 1] in _COMMAS:
                break
            begin -= 1
        return begin


def _is_value(reading: Reading, cue: Match[object]) -> bool:
    """Whether a cue is the value of a field: after a colon, or apart as in a table; `0.6` is no `0`."""
    start, stop = reading.start[cue.first], reading.end[cue.stop - 1]
    before = reading.text[max(0, start - _GAP_AT_MOST) : start]
    return cue.first > 0 and _APART.search(before) is not None and _DECIMALS.match(reading.text, stop) is None


def _sections(reading: Reading, headings: Sequence[Match[_Cue]]) -> list[Scope]:
    """Scopes of headings: the text below them, up to the next heading or an empty line."""
    named = [match for match in headings if _is_heading(reading, match)]
    scopes = []
    for match, following in zip(named, [*named[1:], None], strict=False):
        if not match.value.kind:
            continue
        end = min(len(reading), match.stop + (match.value.reach or _SECTION_WORDS))
        if following is not None:
            end = min(end, following.first)
        first = match.stop + (match.stop < len(reading) and reading.words[match.stop] in _COLONS)
        if first < end:
            # From the first word on, or the heading's own line end would count.
            below = _BELOW.search(reading.text, reading.end[first], reading.end[end - 1] + _HEADING_AT_MOST)
            if below:
                end = min(end, bisect_left(reading.start, below.end()))
        scopes.append(Scope(match.stop, end, match.value.kind, match.first, match.stop))
    return scopes


def _is_heading(reading: Reading, match: Match) -> bool:
    """Whether a phrase is a heading here: before a colon, or a line or sentence of its own."""
    text, begin, stop = reading.text, reading.start[match.first], reading.end[match.stop - 1]
    if _COLON.match(text, stop):
        return True
    before = text[max(0, begin - _HEADING_AT_MOST) : begin]
    if _ALONE.match(text, stop) and (text[begin:stop].isupper() or before.rstrip()[-1:] in ("", ".")):
        return True
    return before.rstrip(" \t\r")[-1:] in ("", "\n") and _BLANK.match(text, stop) is not None


def has_lexicon(language: str) -> bool:
    """Whether there is a lexicon of a language, such as `en`."""
    return resources.files(__package__).joinpath(f"assertions.{language}.csv").is_file()


def cues(language: str, kind: str) -> list[str]:
    """The cues of a kind in a language's lexicon, in lower case; none without a lexicon."""
    if not has_lexicon(language):
        return []
    scopes = (_FORWARD, _BACKWARD, _VALUE)
    return [row["phrase"].lower() for row in _rows(language) if row["kind"] == kind and row["scope"] in scopes]


def _rows(language: str) -> list[dict[str, str]]:
    with resources.files(__package__).joinpath(f"assertions.{language}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    base, _, kind = language.partition("-")
    listed = {row["phrase"] for row in rows}
    return [*(row for row in _rows(base) if row["phrase"] not in listed), *rows] if kind else rows


@cache
def _lexicon(language: str) -> tuple[Phrases[tuple[_Cue, ...]], Phrases[_Cue]]:
    """The cues and the headings of a language."""
    cues: dict[str, tuple[_Cue, ...]] = {}
    headings: dict[str, _Cue] = {}
    for row in _rows(language):
        words = row["reach"].removesuffix(_CLAUSE)
        cue = _Cue(row["kind"], row["scope"], int(words) if words else None, row["reach"].endswith(_CLAUSE))
        for phrase in {row["phrase"], row["phrase"].translate(_HALF_WIDTH)}:
            if cue.scope in (_SECTION, _PART):
                headings[phrase] = cue
            else:
                cues[phrase] = (*cues.get(phrase, ()), cue)
    return Phrases(cues.items()), Phrases(headings.items())
