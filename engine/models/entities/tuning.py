"""Thresholds of decoding and whether spans nest, tuned for exact F1 on marked texts whose candidates are computed once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.models.base import Say
from engine.models.columns import list_values
from engine.models.entities.candidates import Candidate, Decoding, select
from engine.models.entities.scores import candidates_of, prepared
from engine.models.entities.spans import align_spans
from engine.models.tokens import WORDS
from engine.text.tokens import TokenizedText

if TYPE_CHECKING:
    from engine.evaluation.spans import Mention
    from engine.models.entities.system import EntitySystem

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Gold = set[tuple[int, int, int, int]]


def tune(
    candidates: Mapping[int, Sequence[Candidate]],
    gold: Gold,
    decoding: Decoding,
    counts: Callable[[Candidate], bool] = lambda span: True,
) -> tuple[Decoding, float]:
    """The thresholds of the best exact F1, and that F1: one threshold after the other over a grid, twice, from those given.

    A value replaces another only if it is better, so that a few texts do not drive it to an end of the grid.

    Args:
        candidates: by text, under the decoding's `floor`. gold: (text, first word, last word, type). counts: which spans count.
    """
    best, best_f1 = decoding, f1(candidates, gold, decoding, counts)
    for _ in range(min(2, len(decoding.thresholds))):
        for name in decoding.thresholds:
            for value in sorted(GRID, key=lambda value: abs(value - 0.5)):
                changed = replace(best, **{name: value})
                if changed != best and (score := f1(candidates, gold, changed, counts)) > best_f1:
                    best, best_f1 = changed, score
    return best, best_f1


def select_all(candidates: Mapping[int, Sequence[Candidate]], decoding: Decoding) -> list[Candidate]:
    """The spans of each text that are kept under higher thresholds than those of the candidates."""
    return [span for text in sorted(candidates) for span in select(list(filter(decoding.passes, candidates[text])), decoding)]


def f1(
    candidates: Mapping[int, Sequence[Candidate]], gold: Gold, decoding: Decoding, counts: Callable[[Candidate], bool]
) -> float:
    """Exact F1 from 0 to 1; 0 where there is neither gold nor a span."""
    return exact_figures(gold, {(span.text, *span.key) for span in select_all(candidates, decoding) if counts(span)})[2]


def exact_figures(gold: set[Any], predicted: set[Any]) -> tuple[float, float, float]:
    """Precision, recall and F1 of equal elements; 0 where there is nothing to divide by."""
    right = len(gold & predicted)
    precision, recall = right / len(predicted) if predicted else 0.0, right / len(gold) if gold else 0.0
    return precision, recall, 2 * right / (len(gold) + len(predicted)) if gold or predicted else 0.0


@dataclass(frozen=True)
class MarkedTexts:
    """Texts with the mentions that are marked in them, in characters, and the types that somebody looked for in each."""

    ids: Sequence[str]
    texts: Sequence[str]
    mentions: "Sequence[Sequence[Mention]]"
    annotated: Sequence[frozenset[str]]


@dataclass(frozen=True)
class ScoredTexts:
    """Marked texts, known by their rows, with the product's scores, candidates of a `kind`, and the marked spans in words."""

    marked: MarkedTexts
    types: Sequence[str]
    kind: type[Candidate]
    scores: pa.Table
    gold: Gold

    def counts(self, span: Candidate) -> bool:
        """Whether somebody looked for a span's type in its text."""
        return self.types[span.type] in self.marked.annotated[span.text]

    def tune(self, decodings: Sequence[Decoding], rows: NDArray) -> tuple[Decoding, float]:
        """That of some decodings and their variants which, with tuned thresholds, has the best exact F1 on some texts, and that
        F1. Of equally good ones the first is taken, with thresholds as given."""
        scores, members = self._of(rows), set(rows.tolist())
        gold = {span for span in self.gold if span[0] in members}
        variants = [variant for decoding in decodings for variant in decoding.variants()]
        tuned = [tune(candidates_of(scores, self.types, self.kind, each), gold, each, self.counts) for each in variants]
        return max(tuned, key=lambda each: each[1])

    def predict(self, decoding: Decoding, rows: NDArray) -> "list[list[Mention]]":
        """The mentions, in characters, that a decoding finds in some texts."""
        scores, characters = self._of(rows), {}
        for row, spans in zip(scores["row"].to_pylist(), scores["candidates"].to_pylist(), strict=True):
            characters |= {(row, span["first"], span["last"]): (span["start"], span["end"]) for span in spans}
        per_text: dict[int, list[Mention]] = {row: [] for row in rows.tolist()}
        for span in select_all(candidates_of(scores, self.types, self.kind, decoding), decoding):
            if self.counts(span):
                per_text[span.text].append((*characters[span.text, span.first, span.last], self.types[span.type]))
        return list(per_text.values())

    def _of(self, rows: NDArray) -> pa.Table:
        return self.scores.filter(pc.is_in(self.scores["row"], pa.array(rows, pa.int32())))


def score_texts(system: "EntitySystem", marked: MarkedTexts, say: Say = lambda line: None) -> ScoredTexts:
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
    return ScoredTexts(marked, system.names, system.Candidate, pa.concat_tables(tables), gold)
