"""Labelled texts of every kind: codes, marked spans, highlights and findings, for whoever trains, calibrates or evaluates.

`table` reads tables (Parquet, CSV, JSONL) with a row a record, some hundreds of rows at a time, by the columns that a `Labelled`
names. `annotated` reads texts with mentions of entities marked (BRAT, IOB2, GENIA, Parquet) as `Document`s, `spans` as gold for
measuring. `splits` cuts what says no split.
"""

from engine.sources.labelled.annotated import read_documents
from engine.sources.labelled.documents import (
    DOCUMENTS,
    Broken,
    Document,
    Span,
    from_table,
    lost_mentions,
    marked_types,
    to_table,
)
from engine.sources.labelled.genia import Left
from engine.sources.labelled.spans import GoldSpans, read_spans
from engine.sources.labelled.table import Labelled, Reader

__all__ = [
    "DOCUMENTS",
    "Broken",
    "Document",
    "GoldSpans",
    "Labelled",
    "Left",
    "Reader",
    "Span",
    "from_table",
    "lost_mentions",
    "marked_types",
    "read_documents",
    "read_spans",
    "to_table",
]
