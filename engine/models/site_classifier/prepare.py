"""From reports to tokens, with the signs and phrases of their wording."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models import tokens
from engine.models.columns import list_values, lists
from engine.records import PHRASES
from engine.registry.wording import wording
from engine.text.tokens import tokenize
from engine.text.windows import window_count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREPARED = pa.schema(
    [
        *tokens.PREPARED,
        pa.field("pair_ids", tokens.INTS),
        pa.field("n_windows", pa.int32()),
        pa.field("signs", pa.list_(pa.string())),
        pa.field("phrases", PHRASES),
    ]
)


def prepare(records: pa.Table, tokenizer: "Tokenizer", *, window: int, max_tokens: int, pair: str | None = None) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order.

    `pair` names a kept column with a second text, such as a question about the report; it stands in front of every window, and is
    cut at half a window. `signs` are the reasons for review that the wording gives, `phrases` those of the reportability lists. A
    record without a text, or without its second one, is `missing_text`.

    Raises:
        ConfigError: the second text is neither text nor a number.
    """
    prepared = tokens.prepare(records, tokenizer, max_tokens)
    ids = list_values(prepared["input_ids"])
    pairs: list[np.ndarray | None] = [None] * len(ids)
    columns = {}
    if pair is not None:
        questions = _second_texts(records, pair)
        pairs = [tokenized.ids for tokenized in tokenize(tokenizer, [text or "" for text in questions], window // 2)]
        details = [failure and failure["detail"] for failure in prepared["failure"].to_pylist()]
        missing = [why or (None if text is not None else "text.pair") for why, text in zip(details, questions, strict=True)]
        columns["failure"] = tokens.missing_text(missing)
    counts = [window_count(len(text), tokens.room(window, question)) for text, question in zip(ids, pairs, strict=True)]
    wordings = [wording(text) for text in tokens.texts_of(records)]
    columns |= {
        "pair_ids": lists(pairs),
        "n_windows": pa.array(counts, pa.int32()),
        "signs": pa.array([each.signs for each in wordings], pa.list_(pa.string())),
        "phrases": pa.array([[vars(phrase) for phrase in each.phrases] for each in wordings], PHRASES),
    }
    return tokens.with_columns(prepared, columns, PREPARED)


def _second_texts(records: pa.Table, pair: str) -> list[str | None]:
    column = records["keep"].combine_chunks().field(pair)
    try:
        return column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError(f"text.pair: the column {pair} holds {column.type}; a second text is text or a number") from None
