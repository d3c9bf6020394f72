"""The sentences of a report, and its parts: sentences, items of lists, headings, labels of fields, and their values.

Reports are wrapped at any place, typed without stops, or scanned with too many of them, so a line end may lie within a sentence
and a stop may mean nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from engine.text.phrases import Reading
from engine.text.units import CJK

_JOINS = re.compile(r"\s+(?:of|or|nor|and)\b", re.IGNORECASE)
# One class of marks in front, which is fast to search for, then what must be true of each. Chinese has no blank after a stop,
# even an ASCII one; two wide blanks begin a paragraph.
_STOP = re.compile(
    r"[.!?;。！？；．\u3000\n](?:(?<=[.!?;])(?<![.!?;][.!?;])[.!?;]*(?=\s|$)|(?<=[。！？；])[。！？；]*|(?<=．)(?<!\d．)"
    rf"|(?<=\u3000)\u3000+|(?<=\n)(?:[ \t\r]*\n)?|(?<=[!?;])[!?;]*(?=[{CJK}])|(?<=[{CJK}][!?;])[!?;]*|(?<=[{CJK}]\.)(?=[{CJK}]))"
)
_SHORT = re.compile(
    r"(?:^|[\s(])(?:(?:[A-Za-z]\.)*[A-Za-z]|\d+|Dr|Mr|Mrs|Ms|vs|approx|ca|cf|St|Fig|Nr|No|pt|hx|spp?|var|subsp)\.$", re.IGNORECASE
)
_HANGING = re.compile(
    r"(?:[,&(/，、（及或]|\b(?:of|for|or|and|no|not|the|an?|with|without|by|in|to|from|is|are|high|low|grade))\s*$", re.IGNORECASE
)
# `Necrosis: no` is a whole answer, unlike the beginning of `no evidence`.
_ANSWER = re.compile(r"(?:[:=|：]|[ \t]{3}|\t|\.{3})[ \t]*no[ \t]*$", re.IGNORECASE)
_FIELD = re.compile(r"[^\n:：.。]{2,38}[:：]")
# A dash, a number, a letter or a box begins an item of a list.
_ITEM = re.compile(
    r"[-•*◦▪☐☑☒□■○①-⑳【]|\d+[.)、．）]|[（(]\d+[)）]|[一二三四五六七八九十]+、|[A-Za-z][.)]\s|[\[(][ \txX]{0,3}[\])]"
)
# A colon ends the label of a field; `1 : 2` is a ratio, and `p53: mutated` in a sentence no field.
_COLON = re.compile(rf":(?=\s|$|(?<=[a-z]:)[A-Z]|[{CJK}])|(?<=[{CJK}]):|[：】]")
_NUMBERED = re.compile(r"\W*(?:[A-Z\d][\w.-]*\s+)?[A-Z\d]\w*")
_LABEL_AT_MOST = 60
# A scan may lose the blank after a stop.
_GLUED = re.compile(r"(?<=[a-z]{3}\.)(?=[A-Z][a-z])")
_OPEN = re.compile(r"\([^()\n]*\Z")
# A line of so many columns without a stop at its end continues in the next one, even if that begins with a capital.
_WRAPPED = 46
_WIDE = re.compile(f"[{CJK}，、（）]")


def sentences(reading: Reading) -> list[int]:
    """The number of the sentence of each word; numbers rise along the text."""
    cuts = _stops(reading.text)
    return [bisect_right(cuts, begin) for begin in reading.start]


def parts(reading: Reading, places: Sequence[int]) -> np.ndarray:
    """The number of the part in which each place of the original text lies [places]; numbers rise along the text.

    A part ends with a sentence, an item of a list, a heading, a field's label (after its colon) or its value, so nothing that a
    text names lies in two. Where a stop or a line end may lie within a name, as in `uveal. melanoma` of a scan, no part ends.
    """
    text = reading.text
    cuts = _stops(text, surely=True)
    cuts += [match.end() for match in _COLON.finditer(text) if _ends_label(text, match.start())]
    cuts += [match.end() for match in _GLUED.finditer(text)]
    return np.searchsorted(sorted(map(reading.original, cuts)), places, side="right").astype(np.int32)


def _stops(text: str, surely: bool = False) -> list[int]:
    """The ends of sentences, or only those that are `surely` ends and no marks within a name."""
    cuts = []
    line = 0
    for match in _STOP.finditer(text):
        end = match.end()
        if match[0] == "\n":
            before, line = line, end
            if _continues(text, before, match.start(), end) and not (surely and _is_heading(text, before, match.start(), end)):
                continue
        elif match[0][0] == "?" and not text[match.start() - 1 : match.start()].isalnum():
            # `? metastases` is a question, not the end of one.
            continue
        elif match[0].startswith("....") and match[0].strip(".") == "":
            # A leader, as in `necrosis ..... no`.
            continue
        elif surely and _within_name(text, match):
            continue
        elif match[0][0] == ".":
            # Scans may have a stop at each line end: `no evidence. of malignancy`.
            answer = _ANSWER.search(text, max(0, end - 12), end - 1) and not text[end : end + 40].lstrip()[:1].islower()
            if not answer and (
                _SHORT.search(text, max(0, end - 12), end)
                or _HANGING.search(text, max(0, end - 12), end - 1)
                or _JOINS.match(text, end)
            ):
                continue
        else:
            line = end if "\n" in match[0] else line
        cuts.append(end)
    return cuts


def _continues(text: str, line: int, at: int, end: int) -> bool:
    """Whether the line that ends at `at` continues in the next one."""
    following = text[end : end + 40].lstrip(" \t\r")
    if not following or _ITEM.match(following):
        return False
    before = text[line:at].rstrip()
    if following[0].islower() or _JOINS.match(text, at):
        return True
    if _HANGING.search(before[-12:]):
        return _ANSWER.search(before[-12:]) is None
    columns = len(before) if before.isascii() else len(before) + len(_WIDE.findall(before))
    return columns >= _WRAPPED and before[-1] not in ".:;!?：" and not _FIELD.match(following)


def _is_heading(text: str, line: int, at: int, end: int) -> bool:
    """Whether of the line that ends at `at` and the next one exactly one is in capitals, and the first is complete."""
    close = text.find("\n", end)
    before, following = text[line:at], text[end : len(text) if close < 0 else close]
    return _in_capitals(before) != _in_capitals(following) and _HANGING.search(before[-12:]) is None


def _in_capitals(line: str) -> bool:
    """Whether a line of at least four letters is in capitals, but for a few misread ones."""
    letters = sum(map(str.isalpha, line))
    return letters >= 4 and sum(map(str.isupper, line)) > 0.8 * letters


def _within_name(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark may lie within a name."""
    if mark[0][0] == ";":
        return _OPEN.search(text, max(0, mark.start() - _LABEL_AT_MOST), mark.start()) is not None
    if mark[0] != ".":
        return False
    following = text[mark.end() : mark.end() + 40].lstrip()
    if following[:1].islower():
        return True
    before = text[max(0, mark.start() - 12) : mark.start()]
    # Corpora have blanks around marks: `SKW6 . 4`, `S . Typhimurium`.
    apart = before[-1:].isspace() and bool(following)
    return apart and (not following[:2].istitle() or _SHORT.search(before.rstrip() + ".") is not None)


def _ends_label(text: str, colon: int) -> bool:
    """Whether the colon ends the label of a field."""
    before = text[max(0, colon - _LABEL_AT_MOST) : colon].rstrip()
    if not before[-1:].isdigit():
        return True
    # `Part 2: lymph nodes`, but `a ratio of 1 : 2`.
    label = re.split(r"[\n.;:]", before)[-1].strip()
    return _NUMBERED.fullmatch(label) is not None and not text[colon + 1 : colon + 40].lstrip()[:1].isdigit()
