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
from engine.models.site_classifier.rationales.samples import KINDS
from engine.models.tokens import INTS, room
from engine.sources.labelled.splits import TRAIN, VALID
from engine.text.tokens import tokenize
from engine.text.windows import window_count

if TYPE_CHECKING:
    from engine.text.tokens import TokenizedText


class ReportEncoding(Encoding):
    """With second texts, and highlights as flags of tokens."""

    config: ClassifierConfig

    @property
    def schema(self) -> pa.Schema:
        marked = pa.large_list(pa.int8())
        return pa.schema([*super().schema, pa.field("kind", pa.string()), pa.field("pair", INTS), pa.field("marked", marked)])

    def columns(self, texts: pa.Table, tokens: "Sequence[TokenizedText]") -> dict[str, Any]:
        columns, config = super().columns(texts, tokens), self.config
        questions = tokenize(self.tokenizer, [text or "" for text in texts["pair"].to_pylist()], config.window // 2)
        marked = [
            None if marks is None else flags(found, marks, len(text))
            for found, marks, text in zip(tokens, texts["marks"].to_pylist(), texts["text"].to_pylist(), strict=True)
        ]
        return columns | {
            "sample": pc.is_in(texts["kind"], pa.array(KINDS)),
            "kind": texts["kind"],
            "pair": lists([found.ids if config.paired else None for found in questions]),
            "marked": lists(marked, np.int8),
        }

    def numbers(self, task: Task, texts: pa.Table) -> np.ndarray:
        """Those of which a text says neither yes nor no are -1."""
        found, index = super().numbers(task, texts), {label: number for number, label in enumerate(task.labels)}
        if task.multi_label:
            for row, codes in enumerate(texts["unknown"].to_pylist()):
                found[row, [index[code] for code in codes or () if code in index]] = -1
        return found


def examples_of(table: pa.Table, config: ClassifierConfig) -> Examples:
    """What `ReportEncoding` made, as the learner takes it: all of train, or all of valid where they stand by themselves."""
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


def prepared_of(table: pa.Table, config: ClassifierConfig) -> pa.Table:
    """What `ReportEncoding` made, as far as the coder needs it to encode texts, the example's number as key."""
    ids, pairs = list_values(table["ids"]), list_values(table["pair"])
    windows = [window_count(len(each), room(config.window, question)) for each, question in zip(ids, pairs, strict=True)]
    numbers = {"row": pa.array(range(len(table)), pa.int32()), "n_windows": pa.array(windows, pa.int32())}
    return pa.table({**numbers, "input_ids": table["ids"], "pair_ids": table["pair"]})


def whole(table: pa.Table, config: ClassifierConfig) -> Examples:
    """What `ReportEncoding` made, train and valid in one; no epoch shows those without any token."""
    found, split = examples_of(table, config), np.array(table["split"].to_pylist())
    readable = np.array([len(ids) > 0 for ids in found.ids])
    return replace(found, train=(split == TRAIN) & readable, valid=(split == VALID) & readable)


def flags(tokens: "TokenizedText", marks: Sequence[Mapping[str, Any]], length: int) -> np.ndarray:
    """Which tokens lie in a word that a highlight touches, [tokens]; one outside the text's `length` says nothing."""
    words = np.zeros(len(tokens.word_start), dtype=bool)
    for mark in marks:
        if 0 <= mark["start"] < mark["end"] <= length:
            words |= (tokens.word_start < mark["end"]) & (tokens.word_end > mark["start"])
    return words[tokens.word_of_token]
