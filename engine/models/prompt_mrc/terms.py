"""Silver marks: what the terms of a list mark in reports that nobody annotated, and which marked mentions are tumours.

`terms.csv` has heads of noun phrases (`cancer`, `anatomy`, `disease`, `chemical`), words that may stand in front of a head
(`histology`, `grade`, `place`, `side`, `direction`, `duration`), phrases of further types, which are marked as they stand, and
phrases that look like a head but are none. A mention is a head with the words in front of it; of several heads in a row the last
one decides its type, so `right lung adenocarcinoma` is a tumour. Bare `mass`, `lesion` and `nodule` may be anything and are not
marked.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from engine.sources.labelled import Span
from engine.text.phrases import Match, Phrases, Reading
from engine.text.sentences import parts

# Kinds of heads with their types, and what may stand in front of each.
_HEADS = {"cancer": "Cancer", "anatomy": "Anatomy", "disease": "Disease", "chemical": "Chemical"}
_FRONT = {
    "cancer": {"histology", "grade", "place", "side", "direction", "anatomy", "cancer"},
    "anatomy": {"place", "side", "direction", "anatomy"},
    "disease": {"histology", "place", "side", "direction", "anatomy", "duration"},
    "chemical": set(),
}
# A grade in front of a tumour is no part of its name; one between its words is.
_EDGE = {"cancer": {"grade", "direction"}, "anatomy": set(), "disease": {"direction"}, "chemical": set()}
_NOTHING, _GRADE, _SIDE, _MEASUREMENT = "none", "grade", "side", "Measurement"
_FURTHER = {_GRADE: "Grade", _SIDE: "Laterality"}
_SIZE = re.compile(
    r"\b\d+(?:[.,]\d+)?(?:\s*[x×]\s*\d+(?:[.,]\d+)?){0,2}\s*(?:cm|mm|grams?|gm?|ml|cc|kg|%)(?![\w])", re.IGNORECASE
)
# Acronyms of tumours that corpora of abstracts have.
_ACRONYMS = {"aml", "cml", "cll", "hcc", "nsclc", "sclc", "rcc", "oscc", "hnscc", "gbm", "npc", "pdac", "escc", "crc"}
_CELLS = {"cell", "cells", "tissue", "tissues"}
_ADJECTIVES = {"neoplastic", "cancerous", "tumoral", "tumorous", "malignant", "antitumor", "anticancer", "anti", "metastatic"}


def mark(text: str) -> list[Span]:
    """The mentions of a report that terms mark, of all types, in order."""
    reading = Reading(text)
    place = reading.places
    spans = [Span(*place(first, stop), kind) for first, stop, kind in _phrases(reading)]
    spans += [Span(*place(match.first, match.stop), match.value) for match in _lists()[1].find(reading)]
    spans += [Span(*match.span(), _MEASUREMENT) for match in _SIZE.finditer(text)]
    return sorted(set(spans), key=lambda span: (span.start, span.end, span.type))


def is_tumour(mention: str) -> bool:
    """Whether a mention is a tumour or its cells: whether its last word says so, up to a preposition."""
    reading = Reading(re.split(r"\s(?:of|in|with|at|from)\s|\s*\(", mention)[0])
    words = reading.words
    if not words:
        return False
    if words[-1] in _ACRONYMS or set(words) <= _ADJECTIVES | {"tumor", "cancer"}:
        return True
    last = len(words) - (len(words) > 1 and words[-1] in _CELLS)
    return any(match.value == "cancer" and match.stop >= last for match in _lists()[0].find(reading))


def _phrases(reading: Reading) -> Iterator[tuple[int, int, str]]:
    """Noun phrases as words (first, stop, type)."""
    row: list[Match[str]] = []
    part = parts(reading, [reading.original(start) for start in reading.start])
    for match in [*_lists()[0].find(reading), None]:
        if row and (match is None or match.first != row[-1].stop or part[match.first] != part[row[-1].first]):
            yield from _of_row(row, reading)
            row = []
        if match is not None and match.value != _NOTHING:
            row.append(match)


def _of_row(row: Sequence[Match[str]], reading: Reading) -> Iterator[tuple[int, int, str]]:
    """The noun phrases of matches that stand side by side."""
    begin, head = 0, None
    for at, match in enumerate(row):
        if match.value not in _HEADS:
            continue
        if head is not None and row[head].value not in _FRONT[match.value]:
            yield _phrase(row, begin, head, reading)
            begin = head + 1
        head = at
    if head is not None:
        yield _phrase(row, begin, head, reading)


def _phrase(row: Sequence[Match[str]], begin: int, head: int, reading: Reading) -> tuple[int, int, str]:
    kind, first = row[head].value, head
    while first > begin and row[first - 1].value in _FRONT[kind]:
        first -= 1
    while row[first].value in _EDGE[kind] and first < head:
        first += 1
    stop = row[head].stop
    if kind == "cancer":
        stop = _with_type(reading, stop)
    return row[first].first, stop, _HEADS[kind]


def _with_type(reading: Reading, stop: int) -> int:
    """The end of a tumour's name with a type behind it: `adenocarcinoma, endometrioid type`."""
    words = reading.words
    if words[stop : stop + 1] == [","]:
        for end in range(stop + 2, min(stop + 5, len(words))):
            if words[end] == "type":
                return end + 1
    return stop


@cache
def _lists() -> tuple[Phrases[str], Phrases[str]]:
    """The phrases that make up mentions of the four types, and those of further types."""
    with Path(__file__).with_name("terms.csv").open(encoding="utf-8", newline="") as file:
        terms = [(row["phrase"], row["kind"]) for row in csv.DictReader(file)]
    further = [(phrase, _FURTHER.get(kind, kind)) for phrase, kind in terms if kind in _FURTHER or kind[0].isupper()]
    return Phrases(term for term in terms if not term[1][0].isupper()), Phrases(further)
