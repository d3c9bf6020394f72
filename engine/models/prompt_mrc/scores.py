"""An extractor's raw answers as a table: every span that thresholds worth trying let through, before it is settled which stay."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models import run
from engine.models.columns import list_values

if TYPE_CHECKING:
    from engine.models.base import System
    from engine.models.prompt_mrc.decode import Candidate

# `first` and `last` are words, `start` and `end` characters, `first_token` and `last_token` places in the window that begins at
# the token `window`; `outside` is that of the decoding under which a tagger gives the span (see `Decoding`).
CANDIDATE = pa.struct(
    [
        pa.field("type", pa.string()),
        pa.field("first", pa.int32()),
        pa.field("last", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("start_score", pa.float64()),
        pa.field("end_score", pa.float64()),
        pa.field("match_score", pa.float64()),
        pa.field("window", pa.int32()),
        pa.field("first_token", pa.int32()),
        pa.field("last_token", pa.int32()),
        pa.field("edge", pa.bool_()),
        pa.field("outside", pa.float64()),
    ]
)
_SAME = ("first", "last", "score", "start_score", "end_score", "match_score", "window", "edge")
# Texts that are with the product at a time.
_TOGETHER = 256
Scored = tuple["Candidate", float]


def prepared(system: "System", ids: Sequence[str], texts: Sequence[str]) -> Iterator[pa.Table]:
    """Texts as the product prepares them, some at a time; `row` is a text's place."""
    records = run.records_of(ids, texts)
    for at in range(0, len(records), _TOGETHER):
        yield run.prepare(system, records.slice(at, _TOGETHER))[1]


def table(prepared: pa.Table, per_text: Sequence[Sequence[Scored]], types: Sequence[str]) -> pa.Table:
    """`row` and `candidates` of prepared texts.

    Args:
        per_text: the candidates of each, with the `outside` of their decoding. types: the types that they number.
    """
    starts, ends = list_values(prepared["word_start"]), list_values(prepared["word_end"])
    found = [
        [
            {
                **{name: getattr(each, name) for name in _SAME},
                "type": types[each.type],
                "start": int(starts[number][each.first]),
                "end": int(ends[number][each.last]),
                "first_token": each.tokens[0],
                "last_token": each.tokens[1],
                "outside": outside,
            }
            for each, outside in some
        ]
        for number, some in enumerate(per_text)
    ]
    return pa.table({"row": prepared["row"], "candidates": pa.array(found, pa.list_(CANDIDATE))})


def candidates_of(scores: pa.Table, types: Sequence[str], outside: float) -> "dict[int, list[Candidate]]":
    """The candidates of each row under a decoding with that `outside`, as `tuning` takes them: `text` is the row, and `row`, the
    place of a batch that is gone, -1."""
    from engine.models.prompt_mrc.decode import Candidate

    numbers = {name: number for number, name in enumerate(types)}
    return {
        row: [
            Candidate(
                text=row,
                type=numbers[each["type"]],
                row=-1,
                tokens=(each["first_token"], each["last_token"]),
                **{name: each[name] for name in _SAME},
            )
            for each in some
            if each["outside"] == outside
        ]
        for row, some in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True)
    }
