"""Annotated documents, read and written as a table."""

from collections.abc import Iterable

import pyarrow as pa

from engine.records import FAILURE
from engine.sources.labelled import Document, Labelled, Omitted, read_documents
from engine.sources.labelled.values import SPANS

DOCUMENTS = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string()),
        pa.field("split", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("spans", SPANS),
        pa.field("failure", FAILURE),
    ]
)


def to_table(documents: Iterable[Document]) -> pa.Table:
    """The documents as `DOCUMENTS`, in their order."""
    rows = []
    for document in documents:
        sound = document.broken is None
        rows.append(
            {
                "record_id": document.record_id,
                "dataset": document.dataset,
                "split": document.split,
                "lang": document.lang,
                "text": document.text if sound else None,
                "spans": [vars(span) for span in document.spans] if sound else None,
                "failure": None if sound else {"kind": "parse_error", "detail": document.broken},
            }
        )
    return pa.Table.from_pylist(rows, schema=DOCUMENTS)


def read(path: object) -> list[Document]:
    return read_documents(Labelled(str(path)), Omitted())
