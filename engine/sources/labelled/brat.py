"""BRAT standoff: a text beside a file of annotations, one a line, as `T1<tab>Type 10 20;25 31<tab>the words`.

A mention in several pieces has a span for each, with a common group; pieces with only white space between them, such as a line
end, are one. Only text-bound annotations (T) are read. Offsets count code points of the text as it is stored.
Source of the format: Stenetorp et al., brat (EACL 2012), and its page on standoff.
"""

import re

from engine.errors import RowError
from engine.sources.labelled.documents import Document, Span

_BOUND = re.compile(r"(T\S+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")


def document(record_id: str, text: str, annotations: str | None, **facts: str | None) -> Document:
    """One document; broken if it has no annotations, or one cannot be read or does not fit the text."""
    if annotations is None:
        return Document(record_id, "", broken="brat: there is no .ann file for this text", **facts)
    try:
        return Document(record_id, text, spans(text, annotations), **facts)
    except RowError as error:
        return Document(record_id, "", broken=error.detail, **facts)


def spans(text: str, annotations: str) -> tuple[Span, ...]:
    """The pieces of every mention.

    Raises:
        RowError: a line begins like an annotation of text but is none, its offsets are outside the text, or its words are not at
            its offsets.
    """
    mentions: list[Span] = []
    for number, line in enumerate(annotations.split("\n"), 1):
        if not line.startswith("T"):
            continue
        match = _BOUND.fullmatch(line.rstrip("\r"))
        if match is None:
            raise RowError("parse_error", f"brat: line {number} is no text annotation")
        name, kind, offsets, words = match.groups()
        pieces = [tuple(map(int, piece.split())) for piece in offsets.split(";")]
        if any(not 0 <= start < end <= len(text) for start, end in pieces):
            raise RowError("parse_error", f"brat: the offsets of line {number} are outside the text")
        if words is not None and words.split() != " ".join(text[start:end] for start, end in pieces).split():
            raise RowError("parse_error", f"brat: the words of line {number} are not at its offsets")
        merged: list[tuple[int, int]] = []
        for start, end in sorted(pieces):
            if merged and not text[merged[-1][1] : start].strip():
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        mentions += [Span(start, end, kind, name if len(merged) > 1 else None) for start, end in merged]
    return tuple(mentions)
