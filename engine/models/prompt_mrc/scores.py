"""An extractor's raw answers as a table: every candidate that a threshold worth trying lets through, before any is selected."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models import run
from engine.models.columns import list_values
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate

if TYPE_CHECKING:
    from engine.models.base import System

# `first` and `last` are words, `start` and `end` characters; `first_token` and `last_token` are places in the window that begins
# at token `window`; `outside` is that of the decoding under which a tagger gives the span (see `Decoding`).
CANDIDATE = pa.struct(
    [
        ("type", pa.string()),
        *((name, pa.int32()) for name in ("first", "last", "start", "end")),
        *((name, pa.float64()) for name in ("score", "start_score", "end_score", "match_score", "margin")),
        *((name, pa.int32()) for name in ("window", "first_token", "last_token")),
        *((name, pa.bool_()) for name in ("edge", "zero_shot")),
        ("outside", pa.float64()),
    ]
)
_EQUAL = ("first", "last", "score", "start_score", "end_score", "match_score", "margin", "window", "edge", "zero_shot")
# Texts that are handed to the product together.
_TOGETHER = 256


FLOOR = 0.1
"""The lowest threshold that is tried; every candidate must pass it."""

OFFSETS = (0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 3.0)
"""Values that are tried as a tagger's `outside`; of equally good ones the first is taken."""

THRESHOLDS = ("start", "end", "match")


def lowest_decodings(decoding: Decoding, tagger: bool) -> list[Decoding]:
    """The decodings whose candidates suffice to tune thresholds: with the lowest thresholds, and for a tagger one for each of
    `OFFSETS`, because `outside` changes what its candidates are."""
    offsets = dict.fromkeys((*OFFSETS, decoding.outside)) if tagger else [decoding.outside]
    return [replace(decoding, outside=offset, **dict.fromkeys(THRESHOLDS, FLOOR - 1e-6)) for offset in offsets]


def prepared(system: "System", ids: Sequence[str], texts: Sequence[str]) -> Iterator[pa.Table]:
    """Texts as the product prepares them, some at a time; `row` is a text's place."""
    records = run.records_of(ids, texts)
    for at in range(0, len(records), _TOGETHER):
        yield run.prepare(system, records.slice(at, _TOGETHER))[1]


def candidate_table(prepared: pa.Table, per_text: Sequence[Sequence[tuple[Candidate, float]]], types: Sequence[str]) -> pa.Table:
    """`row` and `candidates` of prepared texts.

    Args:
        per_text: the candidates of each, with the `outside` of their decoding. types: names by number.
    """
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    rows = [
        [
            {
                **{name: getattr(span, name) for name in _EQUAL},
                "type": types[span.type],
                "start": int(starts[number][span.first]),
                "end": int(ends[number][span.last]),
                "first_token": span.tokens[0],
                "last_token": span.tokens[1],
                "outside": outside,
            }
            for span, outside in spans
        ]
        for number, spans in enumerate(per_text)
    ]
    return pa.table({"row": prepared["row"], "candidates": pa.array(rows, pa.list_(CANDIDATE))})


def candidates_of(scores: pa.Table, types: Sequence[str], outside: float) -> dict[int, list[Candidate]]:
    """The candidates of each row under a decoding with that `outside`; their `text` is the row, and their `row`, the place in a
    batch that no longer exists, -1."""
    return {
        row: [
            Candidate(
                text=row,
                type=types.index(span["type"]),
                row=-1,
                tokens=(span["first_token"], span["last_token"]),
                **{name: span[name] for name in _EQUAL},
            )
            for span in spans
            if span["outside"] == outside
        ]
        for row, spans in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True)
    }
