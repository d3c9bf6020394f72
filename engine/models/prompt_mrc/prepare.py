"""Reports to tokens with the offsets of their words, and how long they are."""

from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models import tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREPARED = pa.schema([*tokens.PREPARED, pa.field("text_chars", pa.int32())])


def prepare(records: pa.Table, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order; a text that is
    missing or has no token is `missing_text`."""
    lengths = pa.array([len(text) for text in tokens.texts_of(records)], pa.int32())
    return tokens.with_columns(tokens.prepare(records, tokenizer, max_tokens), {"text_chars": lengths}, PREPARED)
