"""Reports to tokens with the offsets of their words."""

from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.columns import lists
from engine.records import FAILURE, text_digest
from engine.text.tokens import tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_INTS = pa.large_list(pa.int32())
WORDS = ("input_ids", "word_of_token", "word_start", "word_end", "word_spoken")
PREPARED = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("failure", FAILURE),
        pa.field("text_sha256", pa.binary(32)),
        *(pa.field(name, _INTS) for name in WORDS),
        pa.field("text_chars", pa.int32()),
        pa.field("truncated_chars", pa.int32()),
    ]
)


def prepare(records: pa.Table, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order; a text without any
    token is `missing_text`."""
    texts = records["text"].to_pylist()
    tokens = tokenize(tokenizer, texts, max_tokens)
    lacking = [None if len(found.ids) else {"kind": "missing_text", "detail": "no tokens"} for found in tokens]
    columns = {
        "row": records["row"],
        "record_id": records["record_id"],
        "failure": pa.array(lacking, FAILURE),
        "text_sha256": pa.array([text_digest(text) for text in texts], pa.binary(32)),
        "input_ids": lists([t.ids for t in tokens]),
        "word_of_token": lists([t.word_of_token for t in tokens]),
        "word_start": lists([t.word_start for t in tokens]),
        "word_end": lists([t.word_end for t in tokens]),
        "word_spoken": lists([t.spoken for t in tokens]),
        "text_chars": pa.array([len(text) for text in texts], pa.int32()),
        "truncated_chars": pa.array([t.truncated_chars for t in tokens], pa.int32()),
    }
    return pa.table(columns, schema=PREPARED)
