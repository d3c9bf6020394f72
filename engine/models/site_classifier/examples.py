"""Labelled reports as examples: tokens, labels and highlights as numbers, and back again for a learner."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.models.code_examples import Encoding, labels_of
from engine.models.code_task import Task
from engine.models.columns import list_values, lists
from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.rationales import KINDS
from engine.models.tokens import INTS, room
from engine.sources.labelled.splits import TRAIN, VALID
from engine.text.tokens import tokenize
from engine.text.windows import window_count

if TYPE_CHECKING:
    from engine.text.tokens import TokenizedText


class ReportEncoding(Encoding):
    """Also encodes second texts, and highlights as a flag for each token."""

    config: ClassifierConfig

    @property
    def schema(self) -> pa.Schema:
        marked = pa.large_list(pa.int8())
        return pa.schema([*super().schema, pa.field("kind", pa.string()), pa.field("pair", INTS), pa.field("marked", marked)])

    def columns(self, texts: pa.Table, tokens: "Sequence[TokenizedText]") -> dict[str, Any]:
        pairs = tokenize(self.tokenizer, [text or "" for text in texts["pair"].to_pylist()], self.config.window // 2)
        marked = [
            None if marks is None else marked_tokens(tokenized, marks, len(text))
            for tokenized, marks, text in zip(tokens, texts["marks"].to_pylist(), texts["text"].to_pylist(), strict=True)
        ]
        return super().columns(texts, tokens) | {
            "sample": pc.is_in(texts["kind"], pa.array(KINDS)),
            "kind": texts["kind"],
            "pair": lists([pair.ids if self.config.paired else None for pair in pairs]),
            "marked": lists(marked, np.int8),
        }

    def numbers(self, task: Task, texts: pa.Table) -> np.ndarray:
        """Unknown labels become -1."""
        numbers, index = super().numbers(task, texts), {label: number for number, label in enumerate(task.labels)}
        if task.multi_label:
            for row, codes in enumerate(texts["unknown"].to_pylist()):
                numbers[row, [index[code] for code in codes or () if code in index]] = -1
        return numbers


def examples_of(table: pa.Table, config: ClassifierConfig) -> Examples:
    """A table of `ReportEncoding` for the learner, where all of it is train, or all of it is valid."""
    everyone = np.ones(len(table), dtype=bool)
    return Examples(
        record_id=table["record_id"].to_pylist(),
        ids=list_values(table["ids"]),
        labels=labels_of(table, config.labels),
        train=everyone,
        valid=everyone,
        pairs=list_values(table["pair"]) if config.paired else None,
        kind=np.array(table["kind"].to_pylist()),
        sample=np.array(table["sample"].to_pylist(), dtype=bool),
        marked=list_values(table["marked"]),
    )


def whole_examples(table: pa.Table, config: ClassifierConfig) -> Examples:
    """A table of `ReportEncoding` with train and valid in one; texts without any token take part in neither."""
    split = np.array(table["split"].to_pylist())
    examples = examples_of(table, config)
    readable = np.array([len(ids) > 0 for ids in examples.ids])
    return replace(examples, train=(split == TRAIN) & readable, valid=(split == VALID) & readable)


def prepared_table(table: pa.Table, config: ClassifierConfig) -> pa.Table:
    """The columns that the coder needs to encode the texts of a table of `ReportEncoding`; their keys are the row numbers."""
    texts = zip(list_values(table["ids"]), list_values(table["pair"]), strict=True)
    counts = [window_count(len(ids), room(config.window, pair)) for ids, pair in texts]
    numbers = {"row": pa.array(range(len(table)), pa.int32()), "n_windows": pa.array(counts, pa.int32())}
    return pa.table({**numbers, "input_ids": table["ids"], "pair_ids": table["pair"]})


def marked_tokens(tokens: "TokenizedText", marks: Sequence[Mapping[str, Any]], length: int) -> np.ndarray:
    """Whether each token is in a word that a highlight touches, [tokens]; highlights beyond the text's `length` are ignored."""
    words = np.zeros(len(tokens.word_start), dtype=bool)
    for mark in marks:
        if 0 <= mark["start"] < mark["end"] <= length:
            words |= (tokens.word_start < mark["end"]) & (tokens.word_end > mark["start"])
    return words[tokens.word_of_token]
