"""Finds phrases of a list in a text: at each word the longest one, in any case and with any blanks or hyphens between words.

A CJK character is a word of its own, since such texts have no blanks between words; `IgE升高` is `ige`, `升`, `高`.
Invisible characters (NUL between letters, soft hyphens, zero-width blanks) and line ends within words (`carci-` `noma`) are
skipped. Offsets are those of the original text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from typing import Generic, TypeVar

from engine.text.units import CJK

_LINE_END = r"-[ \t]*\r?\n[ \t]*"
# `EXCISION-` above `NO CARCINOMA` is a dash, since no word ends so.
_WHOLE = r"(?!(?:NO|NOT|NONE|NEGATIVE|BENIGN|FREE|WITH|SEE|CONSISTENT|SUSPICIOUS)(?:[\s.,:;]|\Z))"
_UNSEEN = re.compile(
    rf"[\x00\u00ad\u200b-\u200d\u2060\ufeff]+|(?<=[a-z]){_LINE_END}(?=[a-z])|(?<=[A-Z]){_LINE_END}{_WHOLE}(?=[A-Z])"
)
_LETTERS, _MARK = rf"(?:[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)?|[{CJK}])", r"[^\w\s\-–—‐‑/]"
_WORD, _PHRASE_WORD = re.compile(rf"{_LETTERS}|{_MARK}"), re.compile(rf"\ue000?{_LETTERS}\ue000?|{_MARK}")
# Scans confuse O and zero: `rule 0ut`. Codes of stages have a letter and a digit, or two digits.
_CONFUSED = re.compile(r"(?=.*0)(?=.*[a-z].*[a-z])[a-z0]+")
# Cached words; a corpus has some ten thousand, and noise any number.
_MOST_CACHED = 100_000

Value = TypeVar("Value")


class Reading:
    """A text prepared for looking up phrases.

    `text` is the text without invisible characters. `words` are its words and marks in lower case, without hyphens and slashes,
    `start` and `end` their half-open offsets in `text`. `divided` has the parts of words with a line end inside, by number, since
    the hyphen may belong to the phrase (`b-` `cell`). `places` gives offsets in the original.
    """

    def __init__(self, original: str) -> None:
        self._original_offsets: list[int] | None = None
        self.text = original
        seams: list[int] = []
        if _UNSEEN.search(original):
            gaps = [match.span() for match in _UNSEEN.finditer(original)]
            edges = [0, *(edge for gap in gaps for edge in gap), len(original)]
            pieces = list(zip(edges[::2], edges[1::2], strict=True))
            self._original_offsets = [at for begin, stop in pieces for at in range(begin, stop)]
            self.text = "".join(original[begin:stop] for begin, stop in pieces)
            joined = accumulate(stop - begin for begin, stop in pieces)
            seams = [at for (begin, _), at in zip(gaps, joined, strict=False) if original[begin] == "-"]
        spans = [match.span() for match in _WORD.finditer(self.text)]
        self.start = [begin for begin, _ in spans]
        self.end = [stop for _, stop in spans]
        self.divided: dict[int, list[str]] = {}
        for word, group in groupby(seams, key=lambda seam: bisect_right(self.start, seam) - 1):
            edges = [self.start[word], *group, self.end[word]]
            self.divided[word] = [self.text[begin:stop].lower() for begin, stop in pairwise(edges)]

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def words(self) -> list[str]:
        words = [self.text[begin:stop].lower().replace("’", "'") for begin, stop in zip(self.start, self.end, strict=True)]
        return [word if word.isalpha() or not _CONFUSED.fullmatch(word) else word.replace("0", "o") for word in words]

    @cached_property
    def low(self) -> str:
        """`text` in lower case."""
        return self.text.lower()

    def places(self, first: int, stop: int) -> tuple[int, int]:
        """Offsets in the original text of the words `first` to `stop` (half-open, at least one)."""
        return self.original(self.start[first]), self.original(self.end[stop - 1] - 1) + 1

    def original(self, at: int) -> int:
        """The offset in the original text of the character at `at` of `text`; for the end of `text` that after its last one."""
        offsets = self._original_offsets
        if offsets is None:
            return at
        return offsets[at] if at < len(offsets) else offsets[-1] + 1 if offsets else 0


@dataclass(frozen=True)
class Match(Generic[Value]):
    """A phrase in a reading: its words `first` to `stop` (half-open), its wording in the list, and its value."""

    first: int
    stop: int
    phrase: str
    value: Value


class _Node(Generic[Value]):
    __slots__ = ("entry", "following", "stems")

    def __init__(self) -> None:
        self.following: dict[str, _Node[Value]] = {}
        self.stems: list[tuple[str, bool, bool, _Node[Value]]] = []
        self.entry: tuple[str, Value] | None = None


class Phrases(Generic[Value]):
    """A list of phrases, each with its value; of equal phrases the last counts.

    A word of a phrase may begin or end with `*`, which stands for any letters: `*carcinoma*` is every word with it. A word of at
    least four letters without `*` also matches its English plural (`melanoma`, `melanomas`).
    """

    def __init__(self, entries: Iterable[tuple[str, Value]]) -> None:
        self._root: _Node[Value] = _Node()
        self._cache: dict[str, tuple[_Node[Value], ...]] = {}
        for phrase, value in entries:
            words = _phrase_words(phrase)
            node = self._root
            for word in words:
                node = _step(node, word)
            if words:
                node.entry = (phrase, value)

    def find(self, reading: Reading) -> list[Match[Value]]:
        """The matches in a text from left to right, without overlap: where several begin at a word, the longest."""
        matches: list[Match[Value]] = []
        words, divided, cache, free = reading.words, reading.divided, self._cache, 0
        for at, word in enumerate(words):
            nodes = cache[word] if word in cache else self._first(word)
            if at in divided:
                nodes = [*nodes, *_follow([self._root], divided[at])]
            if nodes and at >= free:
                stop, entry = _longest(nodes, reading, at)
                if entry is not None:
                    matches.append(Match(at, stop, *entry))
                    free = stop
        return matches

    def _first(self, word: str) -> Sequence[_Node[Value]]:
        """The nodes after a first word."""
        if len(self._cache) >= _MOST_CACHED:
            self._cache.clear()
        nodes = self._cache[word] = tuple(_children(self._root, word))
        return nodes


def _longest(nodes: "Sequence[_Node[Value]]", reading: Reading, at: int) -> tuple[int, tuple[str, Value] | None]:
    """The end of the longest phrase that begins at word `at`, and its entry, or None."""
    words, best, entry, place = reading.words, at, None, at + 1
    while nodes:
        for node in nodes:
            if node.entry is not None and place > best:
                best, entry = place, node.entry
        if place == len(words):
            break
        parts = reading.divided.get(place)
        nodes = _follow(nodes, [words[place]]) + (_follow(nodes, parts) if parts else [])
        place += 1
    return best, entry


def _follow(nodes: "Sequence[_Node[Value]]", words: Sequence[str]) -> "list[_Node[Value]]":
    """The nodes after these words."""
    for word in words:
        nodes = [child for node in nodes for child in _children(node, word)]
    return list(nodes)


def _phrase_words(phrase: str) -> list[str]:
    """The words of a phrase as in a reading, with the `*` at their ends."""
    marked = re.sub(r"\*", "\ue000", phrase)
    words = _PHRASE_WORD.findall(marked)
    return [word.lower().replace("’", "'").replace("\ue000", "*") for word in words]


def _step(node: "_Node[Value]", word: str) -> "_Node[Value]":
    if "*" not in word:
        return node.following.setdefault(word, _Node())
    stem, before, after = word.strip("*"), word.startswith("*"), word.endswith("*")
    for known, *sides, child in node.stems:
        if known == stem and sides == [before, after]:
            return child
    child: _Node[Value] = _Node()
    node.stems.append((stem, before, after, child))
    return child


def _children(node: "_Node[Value]", word: str) -> "list[_Node[Value]]":
    """The nodes after a word, those of longer words first."""
    exact = node.following.get(word)
    if exact is None and len(word) > 4 and word.endswith("s"):
        exact = node.following.get(word[:-1]) or (node.following.get(word[:-2]) if word.endswith("es") else None)
    children = [] if exact is None else [exact]
    for stem, before, after, child in node.stems:
        if (before or word.startswith(stem)) and (after or word.endswith(stem)) and stem in word:
            children.append(child)
    return children
