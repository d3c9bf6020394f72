"""GENIA XML: articles with a `cons` element around every mention, one inside another where mentions nest.

A document is an article, its sentences a line each. The classes under `sem` are brought together as five types: DNA, RNA,
protein, cell_line and cell_type; other classes are no types. A coordination (`sem="(AND ...)"`, as in "CD4 and CD8 cells") lies
in pieces that the element does not part, so it is left out and counted.
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
class Left:
    """Mentions that became no span: of coordinations the article's id and the types in them, and how many of other classes."""

    coordinated: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    other: int = 0

    def count(self, record_ids: Collection[str], types: Collection[str]) -> int:
        """Coordinations with one of some types in some articles."""
        return sum(record_id in record_ids and not kinds.isdisjoint(types) for record_id, kinds in self.coordinated)


def read(data: bytes, name: str, left: Left | None = None, *, made: str | None = None, **more: str | None) -> Iterator[Document]:
    """The articles of a file.

    Args:
        name: the file's, for messages. left: counts what became no span. made: begins the ids of articles without one, in place
            of the file's name.
    Raises:
        ConfigError: it is no XML, or has no article.
    """
    left = left if left is not None else Left()
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        line, column = error.position
        raise ConfigError(f"{name} is no XML that can be read (line {line}, column {column})", "data.path") from None
    articles = list(root.iter("article"))
    if not articles:
        raise ConfigError(f"{name} has no <article>; is it GENIA XML?", "data.path")
    for number, article in enumerate(articles):
        named = (article.findtext("articleinfo/bibliomisc") or "").strip()
        pieces: list[str] = []
        spans: list[Span] = []
        record_id = named or f"{made or name}:{number}"
        at = 0
        for sentence in article.iter("sentence"):
            at = _walk(sentence, at, pieces, spans, left, record_id) + 1
            pieces.append("\n")
        text = "".join(pieces)
        yield Document(record_id, text, tuple(spans), **more)


def coarse(sem: str | None) -> str | None:
    """The type of a class such as `G#protein_molecule`; None where it has none of the five."""
    kind = (sem or "").removeprefix("G#")
    return next((each for each in TYPES if kind == each or kind.startswith(f"{each}_")), None)


def _walk(element: ET.Element, at: int, pieces: list[str], spans: list[Span], left: Left, record_id: str) -> int:
    """Adds an element's text, which begins at offset `at`, and its mentions; returns where it ends."""
    start, inside = at, element.text or ""
    pieces.append(inside)
    at += len(inside)
    for child in element:
        at = _walk(child, at, pieces, spans, left, record_id)
        pieces.append(child.tail or "")
        at += len(child.tail or "")
    sem = element.get("sem")
    if element.tag != "cons" or not sem:
        return at
    if sem.startswith("("):
        left.coordinated.append((record_id, frozenset(filter(None, map(coarse, re.findall(r"G#\w+", sem))))))
    elif (kind := coarse(sem)) is None:
        left.other += 1
    elif at > start:
        spans.append(Span(start, at, kind))
    return at
