"""Reports to tokens, and prepared rows to batches of windows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models.columns import lists
from engine.records import FAILURE, PHRASES, text_digest
from engine.registry.wording import wording
from engine.text.tokens import tokenize
from engine.text.windows import window_bounds, window_count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.models.site_classifier.network import Batch

_INTS = pa.large_list(pa.int32())
PREPARED = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("failure", FAILURE),
        pa.field("text_sha256", pa.binary(32)),
        pa.field("input_ids", _INTS),
        pa.field("pair_ids", _INTS),
        pa.field("word_of_token", _INTS),
        pa.field("word_start", _INTS),
        pa.field("word_end", _INTS),
        pa.field("word_spoken", _INTS),
        pa.field("n_windows", pa.int32()),
        pa.field("truncated_chars", pa.int32()),
        pa.field("signs", pa.list_(pa.string())),
        pa.field("phrases", PHRASES),
    ]
)


def prepare(
    records: pa.Table,
    tokenizer: "Tokenizer",
    *,
    window: int,
    max_tokens: int,
    pair: str | None = None,
) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order.

    `pair` names a kept column with a second text, put in front of every window (a question about the report, say). It is cut at
    half a window. `signs` names what the wording says about the report, `phrases` are those of the reportability lists. A text
    without any token is `missing_text`, and so is a record without its second text.

    Raises:
        ConfigError: the second text is neither text nor a number.
    """
    texts = records["text"].to_pylist()
    tokens = tokenize(tokenizer, texts, max_tokens)
    pairs: list[np.ndarray | None] = [None] * len(texts)
    lacking = [None if len(found.ids) else "no tokens" for found in tokens]
    if pair is not None:
        questions = _second_texts(records, pair)
        pairs = [found.ids for found in tokenize(tokenizer, [text or "" for text in questions], window // 2)]
        lacking = [why or (None if text is not None else "text.pair") for why, text in zip(lacking, questions, strict=True)]
    room = [window if question is None else window - len(question) - 1 for question in pairs]
    wordings = [wording(text) for text in texts]
    columns = {
        "row": records["row"],
        "record_id": records["record_id"],
        "failure": pa.array([why and {"kind": "missing_text", "detail": why} for why in lacking], FAILURE),
        "text_sha256": pa.array([text_digest(text) for text in texts], pa.binary(32)),
        "input_ids": lists([t.ids for t in tokens]),
        "pair_ids": lists(pairs),
        "word_of_token": lists([t.word_of_token for t in tokens]),
        "word_start": lists([t.word_start for t in tokens]),
        "word_end": lists([t.word_end for t in tokens]),
        "word_spoken": lists([t.spoken for t in tokens]),
        "n_windows": pa.array([window_count(len(t.ids), r) for t, r in zip(tokens, room, strict=True)], pa.int32()),
        "truncated_chars": pa.array([t.truncated_chars for t in tokens], pa.int32()),
        "signs": pa.array([each.signs for each in wordings], pa.list_(pa.string())),
        "phrases": pa.array([[vars(phrase) for phrase in each.phrases] for each in wordings], PHRASES),
    }
    return pa.table(columns, schema=PREPARED)


def _second_texts(records: pa.Table, pair: str) -> list[str | None]:
    column = records["keep"].combine_chunks().field(pair)
    try:
        return column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError(f"text.pair: the column {pair} holds {column.type}; a second text is text or a number") from None


def collate(
    row: Sequence[int],
    ids: Sequence[np.ndarray],
    *,
    window: int,
    special: tuple[int, int, int, int],
    pairs: Sequence[np.ndarray | None] | None = None,
    chosen: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> "Batch":
    """Puts the windows of some records into one padded batch.

    Args:
        row: keys of the records. ids: their tokens. special: ids of [CLS], [SEP], [PAD] and [MASK].
        pairs: tokens of the paired text of each record, or None. chosen: windows to take instead of all (token ranges).
    """
    import torch

    from engine.models.site_classifier.network import Batch

    cls, sep, pad, _ = special
    pieces: list[tuple[int, int, np.ndarray, np.ndarray | None]] = []
    for index, tokens in enumerate(ids):
        question = pairs[index] if pairs is not None else None
        room = window if question is None else window - len(question) - 1
        bounds = chosen[index] if chosen is not None else window_bounds(len(tokens), room)
        pieces += [(index, start, tokens[start:stop], question) for start, stop in bounds]
    width = max((len(part) + (0 if question is None else len(question) + 1) for _, _, part, question in pieces), default=0) + 2
    shape = (len(pieces), width)
    out_ids, types, position = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    mask = np.zeros(shape, np.int64)
    for number, (_, start, part, question) in enumerate(pieces):
        head = [cls] if question is None else [cls, *question.tolist(), sep]
        begin, end = len(head), len(head) + len(part)
        out_ids[number, :begin] = head
        out_ids[number, begin:end] = part
        out_ids[number, end] = sep
        position[number, begin:end] = np.arange(start, start + len(part))
        mask[number, : end + 1] = 1
        if question is not None:
            types[number, begin : end + 1] = 1
    return Batch(
        ids=torch.from_numpy(out_ids),
        mask=torch.from_numpy(mask),
        text=torch.from_numpy(position >= 0),
        types=torch.from_numpy(types),
        record=torch.tensor([index for index, *_ in pieces], dtype=torch.long),
        position=torch.from_numpy(position),
        row=list(row),
    )
