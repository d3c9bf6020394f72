"""A system's raw answers as a table: every candidate that a threshold worth trying lets through, before any is selected."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models import run
from engine.models.columns import list_values
from engine.models.entities.candidates import Candidate, Decoding

if TYPE_CHECKING:
    from engine.models.base import System

# `first` and `last` are words, `start` and `end` characters; `first_token` and `last_token` are places in the window that begins
# at token `window`.
_COLUMNS = [
    ("type", pa.string()),
    *((name, pa.int32()) for name in ("first", "last", "start", "end")),
    *((name, pa.float64()) for name in ("score", "margin", "outside")),
    *((name, pa.int32()) for name in ("window", "first_token", "last_token")),
    *((name, pa.bool_()) for name in ("edge", "zero_shot")),
]
_EQUAL = ("first", "last", "score", "margin", "outside", "window", "edge", "zero_shot")
# Texts that are handed to the product together.
_TOGETHER = 256


def candidate_type(kind: type[Candidate]) -> pa.StructType:
    """The Arrow type of a kind of candidates."""
    return pa.struct([*_COLUMNS, *((name, pa.float64()) for name in kind.further)])


def prepared(system: "System", ids: Sequence[str], texts: Sequence[str]) -> Iterator[pa.Table]:
    """Texts as the product prepares them, some at a time; `row` is a text's place."""
    records = run.records_of(ids, texts)
    for at in range(0, len(records), _TOGETHER):
        yield run.prepare(system, records.slice(at, _TOGETHER))[1]


def candidate_table(
    prepared: pa.Table, per_text: Sequence[Sequence[Candidate]], types: Sequence[str], kind: type[Candidate]
) -> pa.Table:
    """`row` and `candidates` of prepared texts.

    Args:
        per_text: the candidates of each. types: names by number.
    """
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    rows = [
        [
            {
                **{name: getattr(span, name) for name in (*_EQUAL, *kind.further)},
                "type": types[span.type],
                "start": int(starts[number][span.first]),
                "end": int(ends[number][span.last]),
                "first_token": span.tokens[0],
                "last_token": span.tokens[1],
            }
            for span in spans
        ]
        for number, spans in enumerate(per_text)
    ]
    return pa.table({"row": prepared["row"], "candidates": pa.array(rows, pa.list_(candidate_type(kind)))})


def candidates_of(
    scores: pa.Table, types: Sequence[str], kind: type[Candidate], decoding: Decoding
) -> dict[int, list[Candidate]]:
    """The candidates of each row that pass the lowest thresholds of a decoding; their `text` is the row."""
    floor = decoding.floor()
    found = {
        row: [
            kind(
                text=row,
                type=types.index(span["type"]),
                tokens=(span["first_token"], span["last_token"]),
                **{name: span[name] for name in (*_EQUAL, *kind.further)},
            )
            for span in spans
        ]
        for row, spans in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True)
    }
    return {row: list(filter(floor.passes, spans)) for row, spans in found.items()}
