"""What systems for texts share: texts to tokens with the way back to the text, and tokens to batches of windows.

A window is [CLS] tokens [SEP], or [CLS] second text [SEP] tokens [SEP] where there is a second text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
"""What every prepared text has, beside its system's own columns: see `engine.text.tokens.TokenizedText`."""


def prepare(records: pa.Table, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    """Tokenizes the texts of records (`row`, `record_id`, `text`) into a `PREPARED` table, in the same order; a text that is
    missing or has no token is `missing_text`."""
    texts = texts_of(records)
    tokens = tokenize(tokenizer, texts, max_tokens)
    columns = {
        "row": records["row"],
        "record_id": records["record_id"],
        "failure": missing_text([None if len(found.ids) else "no tokens" for found in tokens]),
        "text_sha256": pa.array([text_digest(text) for text in texts], pa.binary(32)),
        "input_ids": lists([found.ids for found in tokens]),
        "word_of_token": lists([found.word_of_token for found in tokens]),
        "word_start": lists([found.word_start for found in tokens]),
        "word_end": lists([found.word_end for found in tokens]),
        "word_spoken": lists([found.spoken for found in tokens]),
        "truncated_chars": pa.array([found.truncated_chars for found in tokens], pa.int32()),
    }
    return pa.table(columns, schema=PREPARED)


def texts_of(records: pa.Table) -> list[str]:
    """The texts of records, empty for one that is missing."""
    return [text or "" for text in records["text"].to_pylist()]


def missing_text(reasons: Sequence[str | None]) -> pa.Array:
    """The failures of records that lack a text, None for one that does not."""
    return pa.array([reason and {"kind": "missing_text", "detail": reason} for reason in reasons], FAILURE)


def with_columns(prepared: pa.Table, columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """A prepared table with a system's own columns, or others in place of its own, in the order of a schema."""
    given = {name: prepared[name] for name in prepared.column_names} | columns
    return pa.table({name: given[name] for name in schema.names}, schema=schema)


def room(window: int, pair: np.ndarray | None) -> int:
    """Tokens of the text that have room in a window, behind a second text."""
    return window if pair is None else window - len(pair) - 1


@dataclass
class Batch:
    """Windows of several records.

    `ids`, `mask` (1 for every real position), `text` (1 for tokens of the report itself: no special tokens, no paired text) are
    [W, L]; `types` [W, L] are segment ids; `record` [W] numbers the window's record from 0 to `records`-1. `row` are the
    records' keys. `position` [W, L] is the token's index in its report, -1 outside `text`.
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
        """Puts values [W, L] where their tokens stand in the texts, one array [tokens] for each record, in place."""
        record, position, found = (each.cpu().numpy() for each in (self.record, self.position, values))
        for index, text in enumerate(texts):
            mine = (record == index)[:, None] & (position >= 0)
            text[position[mine]] = found[mine]

    def to(self, device: "torch.device | str") -> "Batch":
        """The batch with its tensors on a device."""
        return Batch(
            *(getattr(self, name).to(device) for name in ("ids", "mask", "text", "types", "record", "position")), self.row
        )


def collate(
    row: Sequence[int],
    ids: Sequence[np.ndarray],
    *,
    window: int,
    special: tuple[int, int, int, int],
    pairs: Sequence[np.ndarray | None] | None = None,
    chosen: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> Batch:
    """Puts the windows of some records into one padded batch.

    Args:
        row: keys of the records. ids: their tokens. special: ids of [CLS], [SEP], [PAD] and [MASK].
        pairs: tokens of the paired text of each record, or None. chosen: windows to take instead of all (token ranges).
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
