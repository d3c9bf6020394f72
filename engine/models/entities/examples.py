"""Annotated texts as numbers for a learner: tokens, and spans in words."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.models.columns import list_values, lists
from engine.models.entities.candidates import Decoding
from engine.models.entities.corpus import Corpus
from engine.models.entities.settings import EntityOptions
from engine.models.entities.spans import MAX_WORDS, Span, align_spans, without_overlaps
from engine.models.examples import COMMON
from engine.models.tokens import INTS
from engine.sources.labelled.splits import TRAIN, VALID
from engine.text.tokens import TokenizedText, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPAN = pa.struct([(name, pa.int32()) for name in ("first", "last", "type")])
SCHEMA = pa.schema(
    [
        *COMMON,
        pa.field("ids", INTS),
        pa.field("word_of_token", INTS),
        pa.field("spans", pa.list_(_SPAN)),
        pa.field("annotated", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Examples:
    """Texts as tokens with their spans in words, and flags [texts] of the training and the validation set.

    `annotated` has, for each text, the numbers of the types that were marked in its corpus.
    """

    record_id: list[str]
    tokens: list[TokenizedText]
    spans: list[list[Span]]
    train: np.ndarray
    valid: np.ndarray
    annotated: list[frozenset[int]]

    def overlapping(self, decoding: Decoding, types: int) -> int:
        """How many spans of the first `types` types in the training set overlap longer ones such that `decoding` can never return
        both."""
        if decoding.nested:
            return 0
        spans = [[span for span in self.spans[member] if span.type < types] for member in np.flatnonzero(self.train)]
        return sum(len(each) - len(without_overlaps(each, decoding.flat_across_types)) for each in spans)

    def longest(self, types: int) -> int:
        """Words that 999 of 1,000 spans of the first `types` types in the training set do not exceed, at most `MAX_WORDS`. Longer
        ones are mostly mistakes of an annotator, or of a tool."""
        spans = [span for member in np.flatnonzero(self.train) for span in self.spans[member] if span.type < types]
        words = [span.last - span.first + 1 for span in spans]
        return min(MAX_WORDS, int(np.quantile(words, 0.999, method="higher"))) if words else MAX_WORDS

    def to_table(self) -> pa.Table:
        """The examples of the training and the validation set as a table of `SCHEMA`."""
        members = np.flatnonzero(self.train | self.valid).tolist()
        columns = {
            "record_id": [self.record_id[member] for member in members],
            "split": [TRAIN if self.train[member] else VALID for member in members],
            "sample": [False] * len(members),
            "ids": lists([self.tokens[member].ids for member in members]),
            "word_of_token": lists([self.tokens[member].word_of_token for member in members]),
            "spans": [[vars(span) for span in self.spans[member]] for member in members],
            "annotated": [sorted(self.annotated[member]) for member in members],
        }
        return pa.table(columns, schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Examples":
        """The inverse of `to_table`, without the words' offsets, which a learner does not need."""
        nothing, split = np.empty(0, np.int32), np.array(table["split"].to_pylist())
        tokens = zip(list_values(table["ids"]), list_values(table["word_of_token"]), strict=True)
        return cls(
            table["record_id"].to_pylist(),
            [TokenizedText(ids, words, nothing, nothing, nothing, 0) for ids, words in tokens],
            [[Span(**span) for span in spans] for spans in table["spans"].to_pylist()],
            split == TRAIN,
            split == VALID,
            [frozenset(numbers) for numbers in table["annotated"].to_pylist()],
        )


def encode_corpus(corpus: Corpus, tokenizer: "Tokenizer") -> tuple[Examples, Counter[str]]:
    """All documents in their order by a tokenizer, and the counts of `align_spans` over all of them. Types are
    numbered as in `types` of the corpus, and then in `further`.

    Raises:
        ConfigError: a span does not fit its text.
    """
    documents, spans, counts, names = corpus.documents, [], Counter(), (*corpus.types, *corpus.further)
    tokens = tokenize(tokenizer, [document.text for document in documents], EntityOptions.max_tokens)
    for document, text in zip(documents, tokens, strict=True):
        marked, name = map(vars, document.spans), f"record {document.record_id}"
        aligned, its_counts = align_spans(text, len(document.text), marked, names, name)
        spans.append(aligned)
        counts.update(its_counts)
    split = np.array([document.split or "" for document in documents])
    readable = np.array([len(text.ids) > 0 for text in tokens], dtype=bool)
    numbers = {name: number for number, name in enumerate(names)}
    annotated = [
        frozenset(numbers[name] for name in corpus.marked[document.dataset] if name in numbers) for document in documents
    ]
    ids = [document.record_id for document in documents]
    return Examples(ids, tokens, spans, (split == TRAIN) & readable, (split == VALID) & readable, annotated), counts
