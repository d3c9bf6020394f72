"""Units of an explanation: words, CJK characters, sentences, each with half-open character offsets.

A model's positions (tokens) belong to units by their offsets; text is never rebuilt by decoding.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

UNIT_KINDS = ("token", "word", "char", "phrase", "prompt", "soft_prompt", "patch", "concept", "sentence")

CJK = r"\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:[.,'’\-/][^\W_{CJK}]+)*%?|[^\w\s]|_+")
_STOP = re.compile(r"[。！？；]+|[.!?;]+(?=\s)|\n[ \t\r]*\n|\n(?=[ \t]*[^\sa-z])")
_SHORT = re.compile(r"(?:\b[A-Za-z]|\b(?:Dr|Mr|Mrs|Ms|vs|approx|ca|cf|St|Fig|Nr))\.$|(?:^|\s)\d+\.$")


@dataclass(frozen=True)
class Beside:
    """A unit outside the text, such as a word of a prompt: its kind, and its text if it has one."""

    kind: str
    text: str | None = None


@dataclass(frozen=True)
class Units:
    """The units of one record: n of its text, then those `beside` it.

    `start` and `end` [n] are offsets into the text; `of_position` [positions] is the unit of each of the model's positions, -1
    for a position without one, which is never erased. `spoken` [n] is true for words with a letter or a digit.

    Units of images are cells in order, and `start` and `end` count them. `boxes` [n, 5] has the number of each one's image, and
    left, top, right and bottom in its pixels, NaN for a cell outside of it.
    """

    kind: str
    start: np.ndarray
    end: np.ndarray
    of_position: np.ndarray
    spoken: np.ndarray | None = None
    beside: tuple[Beside, ...] = ()
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.start) + len(self.beside)

    def merged(self, kind: str, start: np.ndarray, end: np.ndarray) -> "Units":
        """Larger units of the text: each unit joins the larger one that it begins in. Larger units without any are left out,
        units beside the text are unchanged."""
        larger = np.searchsorted(start, self.start, side="right") - 1
        inside = larger >= 0
        inside[inside] = self.start[inside] < np.asarray(end)[larger[inside]]
        used, compact = np.unique(larger[inside], return_inverse=True)
        unit = np.full(len(self) + 1, -1)
        unit[: len(self.start)][inside] = compact
        unit[len(self.start) : -1] = len(used) + np.arange(len(self.beside))
        return Units(kind, np.asarray(start)[used], np.asarray(end)[used], unit[self.of_position], beside=self.beside)


def words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of words [n]: runs of letters and digits with joining marks (`IgE`, `0.1%`, `T-cell`), single CJK characters and
    marks."""
    return _offsets([match.span() for match in _WORD.finditer(text)])


def sentences(text: str, longest: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of sentences [n], without the blanks around them.

    A sentence ends after a full stop, question mark, exclamation mark or semicolon before a blank, after their CJK forms, at an
    empty line, and at a line end unless the next line begins in lower case (a wrapped line). A sentence longer than `longest`
    characters, as in scanned text without punctuation, is cut at its last blank before that.
    """
    cuts = [0]
    for match in _STOP.finditer(text):
        if not (text[match.start()] == "." and _SHORT.search(text[max(cuts[-1], match.end() - 16) : match.end()])):
            cuts.append(match.end())
    cuts.append(len(text))
    spans = []
    for begin, stop in pairwise(cuts):
        start, end = _stripped(text, begin, stop)
        while end - start > longest:
            blank = max(text.rfind(" ", start + 1, start + longest), text.rfind("\n", start + 1, start + longest))
            cut = blank if blank > start else start + longest
            spans.append(_stripped(text, start, cut))
            start, _ = _stripped(text, cut, end)
        if end > start:
            spans.append((start, end))
    return _offsets(spans)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip())) if piece.strip() else start


def _offsets(spans: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return offsets[:, 0], offsets[:, 1]
