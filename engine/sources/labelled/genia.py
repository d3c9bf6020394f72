"""GENIA XML: articles with a `cons` element around every mention; nested mentions are nested elements.

A document is an article, with a line for each sentence. The classes in `sem` are mapped to five types: DNA, RNA, protein,
cell_line and cell_type; other classes are left out. So are coordinations (`sem="(AND ...)"`, as in "CD4 and CD8 cells"), since
the element does not separate their mentions; they are counted.
Source: Kim et al., GENIA corpus (Bioinformatics 19, 2003); the five types: Finkel and Manning, Nested Named Entity Recognition
(EMNLP 2009), section 5.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from engine.errors import ConfigError
from engine.sources.labelled.documents import Document, Span

TYPES = ("DNA", "RNA", "protein", "cell_line", "cell_type")


@dataclass
class Omitted:
    """Mentions without a span: article id and types of each coordination, and the number of mentions of other classes."""

    coordinated: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    other: int = 0

    def count(self, record_ids: Collection[str], types: Collection[str]) -> int:
        """How many coordinations in these articles have one of these types."""
        return sum(record_id in record_ids and not kinds.isdisjoint(types) for record_id, kinds in self.coordinated)


def read(data: bytes, name: str, omitted: Omitted, *, prefix: str | None = None, **facts: str | None) -> Iterator[Document]:
    """The articles of a file.

    Args:
        name: the file's, for messages. omitted: collects mentions without a span. prefix: of the ids of articles without one;
            default the file's name.
    Raises:
        ConfigError: it is no XML, or has no article.
    """
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        line, column = error.position
        raise ConfigError(f"{name} is no XML that can be read (line {line}, column {column})", "data.path") from None
    articles = list(root.iter("article"))
    if not articles:
        raise ConfigError(f"{name} has no <article>; is it GENIA XML?", "data.path")
    for number, article in enumerate(articles):
        record_id = (article.findtext("articleinfo/bibliomisc") or "").strip() or f"{prefix or name}:{number}"
        pieces: list[str] = []
        spans: list[Span] = []
        at = 0
        for sentence in article.iter("sentence"):
            at = _walk(sentence, at, pieces, spans, omitted, record_id) + 1
            pieces.append("\n")
        yield Document(record_id, "".join(pieces), tuple(spans), **facts)


def coarse(sem: str | None) -> str | None:
    """The type of a class such as `G#protein_molecule`; None if it is none of the five."""
    kind = (sem or "").removeprefix("G#")
    return next((each for each in TYPES if kind == each or kind.startswith(f"{each}_")), None)


def _walk(element: ET.Element, at: int, pieces: list[str], spans: list[Span], omitted: Omitted, record_id: str) -> int:
    """Adds an element's text, which begins at offset `at`, and its mentions; returns where it ends."""
    start = at
    pieces.append(element.text or "")
    at += len(pieces[-1])
    for child in element:
        at = _walk(child, at, pieces, spans, omitted, record_id)
        pieces.append(child.tail or "")
        at += len(pieces[-1])
    sem = element.get("sem")
    if element.tag != "cons" or not sem:
        return at
    if sem.startswith("("):
        omitted.coordinated.append((record_id, frozenset(filter(None, map(coarse, re.findall(r"G#\w+", sem))))))
    elif (kind := coarse(sem)) is None:
        omitted.other += 1
    elif at > start:
        spans.append(Span(start, at, kind))
    return at
