"""Texts to tokens with their places in the text, and tokens to batches of windows, for all systems for texts.

A window is [CLS] tokens [SEP], or [CLS] second text [SEP] tokens [SEP] if there is a second text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.models.columns import lists
from engine.records import FAILURE, text_digest
from engine.text.tokens import tokenize
from engine.text.windows import window_bounds

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor

INTS = pa.large_list(pa.int32())
WORDS = ("input_ids", "word_of_token", "word_start", "word_end", "word_spoken")
PREPARED = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("failure", FAILURE),
        pa.field("text_sha256", pa.binary(32)),
        *(pa.field(name, INTS) for name in WORDS),
        pa.field("truncated_chars", pa.int32()),
    ]
)
"""Columns of every prepared text, beside the system's own: see `engine.text.tokens.TokenizedText`."""


def prepare(records: pa.Table, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order; a missing text or
    one without tokens fails as `missing_text`."""
    texts = texts_of(records)
    tokens = tokenize(tokenizer, texts, max_tokens)
    columns = {
        "row": records["row"],
        "record_id": records["record_id"],
        "failure": missing_text([None if len(text.ids) else "no tokens" for text in tokens]),
        "text_sha256": pa.array([text_digest(text) for text in texts], pa.binary(32)),
        "input_ids": lists([text.ids for text in tokens]),
        **{name: lists([getattr(text, name) for text in tokens]) for name in ("word_of_token", "word_start", "word_end")},
        "word_spoken": lists([text.spoken for text in tokens]),
        "truncated_chars": pa.array([text.truncated_chars for text in tokens], pa.int32()),
    }
    return pa.table(columns, schema=PREPARED)


def texts_of(records: pa.Table) -> list[str]:
    """The texts of records, "" for a missing one."""
    return [text or "" for text in records["text"].to_pylist()]


def missing_text(reasons: Sequence[str | None]) -> pa.Array:
    """Failures of records without a usable text, from the reasons; None for the others."""
    return pa.array([reason and {"kind": "missing_text", "detail": reason} for reason in reasons], FAILURE)


def with_columns(prepared: pa.Table, columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """A prepared table with columns added or replaced, in the order of a schema."""
    columns = {name: prepared[name] for name in prepared.column_names} | columns
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def room(window: int, pair: np.ndarray | None) -> int:
    """The number of tokens of the text that fit a window after a second text."""
    return window if pair is None else window - len(pair) - 1


@dataclass
class Batch:
    """Windows of several records.

    `ids`, `mask` (1 for every real position) and `text` (1 for tokens of the report itself: no special tokens, no paired text)
    are [W, L]; `types` [W, L] are segment ids; `record` [W] is the number of the window's record, from 0. `row` are the records'
    keys. `position` [W, L] is the token's index in its report, -1 outside `text`.
    """

    ids: "Tensor"
    mask: "Tensor"
    text: "Tensor"
    types: "Tensor"
    record: "Tensor"
    position: "Tensor"
    row: list[int]

    @property
    def records(self) -> int:
        return len(self.row)

    def lay(self, values: "Tensor", texts: Sequence[np.ndarray]) -> None:
        """Writes values [W, L] to the places of their tokens in `texts`, one array [tokens] per record, in place."""
        record, position, source = (tensor.cpu().numpy() for tensor in (self.record, self.position, values))
        for index, text in enumerate(texts):
            of_record = (record == index)[:, None] & (position >= 0)
            text[position[of_record]] = source[of_record]

    def to(self, device: "torch.device | str") -> "Batch":
        """The batch with its tensors on a device."""
        names = ("ids", "mask", "text", "types", "record", "position")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def collate(
    row: Sequence[int],
    ids: Sequence[np.ndarray],
    *,
    window: int,
    special: tuple[int, int, int, int],
    pairs: Sequence[np.ndarray | None] | None = None,
    chosen: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> Batch:
    """One padded batch of the windows of some records.

    Args:
        row: keys of the records. ids: their tokens. special: ids of [CLS], [SEP], [PAD] and [MASK].
        pairs: tokens of the second text of each record, or None. chosen: token ranges to use as windows instead of all.
    """
    import torch

    cls, sep, pad, _ = special
    pieces: list[tuple[int, int, np.ndarray, np.ndarray | None]] = []
    for index, tokens in enumerate(ids):
        question = pairs[index] if pairs is not None else None
        bounds = chosen[index] if chosen is not None else window_bounds(len(tokens), room(window, question))
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
