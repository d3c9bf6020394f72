"""Labelled texts of every kind: codes, marked spans, highlights and findings, for whoever trains, calibrates or evaluates.

`table` reads tables (Parquet, CSV, JSONL) with a row a record, a few hundred rows at a time, by the columns that a `Labelled`
names. `annotated` reads texts with marked mentions of entities (BRAT, IOB2, GENIA, and `rows` of tables) as `Document`s, `spans`
reads them as gold for evaluation. `splits` splits corpora that have no split.
"""

from engine.sources.labelled.annotated import read_documents
from engine.sources.labelled.documents import Broken, Document, Span, lost_mentions, marked_types
from engine.sources.labelled.genia import Omitted
from engine.sources.labelled.spans import GoldSpans, read_spans
from engine.sources.labelled.table import Labelled, Reader

__all__ = [
    "Broken",
    "Document",
    "GoldSpans",
    "Labelled",
    "Omitted",
    "Reader",
    "Span",
    "lost_mentions",
    "marked_types",
    "read_documents",
    "read_spans",
]
