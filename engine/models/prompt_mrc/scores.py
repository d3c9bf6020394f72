"""An extractor's raw answers as a table: every candidate that a threshold worth trying lets through, before any is selected.

Thresholds are tuned on these tables for marked texts, without running the network again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.evaluation.spans import Mention
from engine.models import run
from engine.models.base import Say
from engine.models.columns import list_values
from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.instances import align_spans
from engine.models.prompt_mrc.tuning import Gold, lowest_decodings, select_all, tune
from engine.models.tokens import WORDS
from engine.text.tokens import TokenizedText

if TYPE_CHECKING:
    from engine.models.base import System
    from engine.models.prompt_mrc.extractor import Extractor

# `first` and `last` are words, `start` and `end` characters; `first_token` and `last_token` are places in the window that begins
# at token `window`; `outside` is that of the decoding under which a tagger gives the span (see `Decoding`).
CANDIDATE = pa.struct(
    [
        ("type", pa.string()),
        *((name, pa.int32()) for name in ("first", "last", "start", "end")),
        *((name, pa.float64()) for name in ("score", "start_score", "end_score", "match_score")),
        *((name, pa.int32()) for name in ("window", "first_token", "last_token")),
        ("edge", pa.bool_()),
        ("outside", pa.float64()),
    ]
)
_EQUAL = ("first", "last", "score", "start_score", "end_score", "match_score", "window", "edge")
# Texts that are handed to the product together.
_TOGETHER = 256


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


@dataclass(frozen=True)
class MarkedTexts:
    """Texts with the mentions that are marked in them, in characters, and the types that somebody looked for in each."""

    ids: Sequence[str]
    texts: Sequence[str]
    mentions: Sequence[Sequence[Mention]]
    annotated: Sequence[frozenset[str]]


@dataclass(frozen=True)
class ScoredTexts:
    """Marked texts, known by their rows, with the product's scores, and the marked spans in words."""

    marked: MarkedTexts
    types: Sequence[str]
    tagger: bool
    scores: pa.Table
    gold: Gold

    def counts(self, span: Candidate) -> bool:
        """Whether somebody looked for a span's type in its text."""
        return self.types[span.type] in self.marked.annotated[span.text]

    def tune(self, decoding: Decoding, rows: NDArray) -> tuple[Decoding, float]:
        """The thresholds of the best exact F1 on some texts, and that F1; of a tagger under the best of all offsets. Of equally
        good ones those given are kept."""
        scores, members = self._of(rows), set(rows.tolist())
        gold = {span for span in self.gold if span[0] in members}
        decodings = [replace(decoding, outside=each.outside) for each in lowest_decodings(decoding, self.tagger)]
        decodings.sort(key=lambda each: each.outside != decoding.outside)
        tuned = [tune(candidates_of(scores, self.types, each.outside), gold, each, self.counts) for each in decodings]
        return max(tuned, key=lambda each: each[1])

    def predict(self, decoding: Decoding, rows: NDArray) -> list[list[Mention]]:
        """The mentions, in characters, that a decoding finds in some texts."""
        scores, characters = self._of(rows), {}
        for row, spans in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True):
            characters |= {(row, span["first"], span["last"]): (span["start"], span["end"]) for span in spans}
        per_text: dict[int, list[Mention]] = {row: [] for row in rows.tolist()}
        for span in select_all(candidates_of(scores, self.types, decoding.outside), decoding):
            if self.counts(span):
                per_text[span.text].append((*characters[span.text, span.first, span.last], self.types[span.type]))
        return list(per_text.values())

    def _of(self, rows: NDArray) -> pa.Table:
        return self.scores.filter(pc.is_in(self.scores["row"], pa.array(rows, pa.int32())))


def score_texts(system: "Extractor", marked: MarkedTexts, say: Say = lambda line: None) -> ScoredTexts:
    """The product's scores of marked texts."""
    tables, gold, done = [], set(), 0
    for table in prepared(system, marked.ids, marked.texts):
        tables.append(system.scores(table))
        words = zip(*(list_values(table[name]) for name in WORDS), table["truncated_chars"].to_pylist(), strict=True)
        for row, tokens in zip(table["row"].to_pylist(), words, strict=True):
            spans = [{"start": start, "end": end, "type": name} for start, end, name in marked.mentions[row]]
            length = len(marked.texts[row])
            aligned, _ = align_spans(TokenizedText(*tokens), length, spans, system.names, marked.ids[row])
            gold |= {(row, span.first, span.last, span.type) for span in aligned}
        done += len(table)
        say(f"scored {done:,} of {len(marked.ids):,}")
    return ScoredTexts(marked, system.names, system.config.is_tagger, pa.concat_tables(tables), gold)
