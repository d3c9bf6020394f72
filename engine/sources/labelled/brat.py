"""BRAT standoff: a text beside a file of annotations, one a line, as `T1<tab>Type 10 20;25 31<tab>the words`.

A mention in several pieces gives a span for each, joined by a group; pieces with nothing but white space between them (the end of
a line parts them) are one. Only text-bound annotations (T) are read. Offsets count code points of the text as it is stored.
Source of the format: Stenetorp et al., brat (EACL 2012), and its page on standoff.
"""

import re

from engine.errors import RowError
from engine.sources.labelled.documents import Document, Span

_BOUND = re.compile(r"(T\S+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")


def document(record_id: str, text: str, annotations: str | None, **more: str | None) -> Document:
    """One document; broken where there are no annotations, or one of them cannot be read or does not fit the text."""
    if annotations is None:
        return Document(record_id, "", broken="brat: there is no .ann file for this text", **more)
    try:
        return Document(record_id, text, spans(text, annotations), **more)
    except RowError as error:
        return Document(record_id, "", broken=error.detail, **more)


def spans(text: str, annotations: str) -> tuple[Span, ...]:
    """The pieces of every mention.

    Raises:
        RowError: a line that begins like an annotation of text and is none, offsets outside the text, or words that do not stand
            where the offsets say.
    """
    found: list[Span] = []
    for number, line in enumerate(annotations.split("\n"), 1):
        if not line.startswith("T"):
            continue
        match = _BOUND.fullmatch(line.rstrip("\r"))
        if match is None:
            raise RowError("parse_error", f"brat: line {number} is no annotation of text")
        name, kind, offsets, words = match.groups()
        pieces = [tuple(map(int, piece.split())) for piece in offsets.split(";")]
        if any(not 0 <= start < end <= len(text) for start, end in pieces):
            raise RowError("parse_error", f"brat: the offsets of line {number} do not lie in the text")
        if words is not None and words.split() != " ".join(text[start:end] for start, end in pieces).split():
            raise RowError("parse_error", f"brat: the words of line {number} do not stand at its offsets")
        whole = _merged(text, sorted(pieces))
        group = name if len(whole) > 1 else None
        found += [Span(start, end, kind, group) for start, end in whole]
    return tuple(found)


def _merged(text: str, pieces: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Pieces in order, those with only white space or nothing between them joined."""
    whole: list[tuple[int, int]] = []
    for start, end in pieces:
        if whole and not text[whole[-1][1] : start].strip():
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole
