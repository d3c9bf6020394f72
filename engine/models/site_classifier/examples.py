"""Labelled reports as examples: tokens, labels and highlights as numbers, and back again for a learner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.code_calibrating import gold
from engine.models.code_task import Task
from engine.models.columns import list_values, lists
from engine.models.examples import COMMON
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.corpus import Piece, beside, read_piece
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.rationales.samples import KINDS
from engine.models.site_classifier.repeats import Repeats
from engine.storage import S3Config, use_s3
from engine.text.tokens import tokenize
from engine.text.windows import window_count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.text.tokens import TokenizedText


@dataclass(frozen=True)
class Tokenize:
    """Reads and tokenizes a piece of the input; wherever it is sent."""

    data: DataConfig
    config: ClassifierConfig
    repeats: Repeats
    s3: S3Config
    max_tokens: int

    def __call__(self, piece: Piece) -> pa.Table:
        use_s3(self.s3)
        side, tokenizer = beside(self.data), load_tokenizer(encoder_folder(self.config.encoder))
        read = read_piece(self.data, piece, side, self.repeats)
        tables = [encoded(table, self.config, tokenizer, self.max_tokens) for table in read]
        return pa.concat_tables(tables) if tables else schema_of(self.config).empty_table()


def encoded(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    """Examples of train and valid as tokens and numbers; those without any token are left out.

    A label that is not in a task's label set counts as none.
    """
    found = _encoded(examples.filter(pc.not_equal(examples["split"], "test")), config, tokenizer, max_tokens)
    return found.filter(pc.greater(pc.list_value_length(found["ids"]), 0))


def tokenized(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int = 16384) -> Examples:
    """Examples held whole, in their order, for a training on cached states; no epoch shows those of test or without any token."""
    found = examples_of(_encoded(examples, config, tokenizer, max_tokens), config)
    split, readable = np.array(examples["split"].to_pylist()), np.array([len(ids) > 0 for ids in found.ids])
    return replace(found, train=(split == "train") & readable, valid=(split == "valid") & readable)


def _encoded(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int) -> pa.Table:
    texts = examples["text"].to_pylist()
    tokens = tokenize(tokenizer, texts, max_tokens)
    questions = tokenize(tokenizer, [text or "" for text in examples["pair"].to_pylist()], config.window // 2)
    marked = [
        None if marks is None else flags(found, marks, len(text))
        for found, marks, text in zip(tokens, examples["marks"].to_pylist(), texts, strict=True)
    ]
    columns = {
        "record_id": examples["record_id"],
        "split": examples["split"],
        "sample": pc.is_in(examples["kind"], pa.array(KINDS)),
        "kind": examples["kind"],
        "ids": lists([found.ids for found in tokens]),
        "pair": lists([found.ids if config.paired else None for found in questions]),
        "marked": lists(marked, np.int8),
    }
    for task in config.tasks:
        numbers = gold(examples[task.name].to_pylist(), task)
        if task.multi_label:
            _forget(numbers, examples["unknown"].to_pylist(), task)
        columns[_column(task)] = lists(list(numbers), np.int64) if task.multi_label else pa.array(numbers)
    return pa.table(columns, schema=schema_of(config))


def _forget(numbers: np.ndarray, unknown: Sequence[Sequence[str] | None], task: Task) -> None:
    """Codes [n, labels] of which a text says neither yes nor no become -1, in place."""
    index = {label: number for number, label in enumerate(task.labels)}
    for row, codes in enumerate(unknown):
        numbers[row, [index[code] for code in codes or () if code in index]] = -1


def examples_of(table: pa.Table, config: ClassifierConfig) -> Examples:
    """What `encoded` wrote, as the learner takes it: all of train, or all of valid where they stand by themselves."""
    labels = {}
    for task in config.tasks:
        column = table[_column(task)]
        many = task.multi_label and len(table)
        labels[task.name] = np.stack(list_values(column)) if many else column.to_numpy()
    everyone = np.ones(len(table), dtype=bool)
    return Examples(
        record_id=table["record_id"].to_pylist(),
        ids=list_values(table["ids"]),
        labels=labels,
        train=everyone,
        valid=everyone,
        pairs=list_values(table["pair"]) if config.paired else None,
        kind=np.array(table["kind"].to_pylist()),
        sample=np.array(table["sample"].to_pylist(), dtype=bool),
        marked=list_values(table["marked"]),
    )


def prepared_of(table: pa.Table, config: ClassifierConfig) -> pa.Table:
    """What `encoded` wrote, as far as the coder needs it to encode texts, the example's number as key."""
    ids, pairs = list_values(table["ids"]), list_values(table["pair"])
    room = [config.window if question is None else config.window - len(question) - 1 for question in pairs]
    windows = [window_count(len(each), size) for each, size in zip(ids, room, strict=True)]
    numbers = {"row": pa.array(range(len(table)), pa.int32()), "n_windows": pa.array(windows, pa.int32())}
    return pa.table({**numbers, "input_ids": table["ids"], "pair_ids": table["pair"]})


def whole(table: pa.Table, config: ClassifierConfig) -> Examples:
    """What `encoded` wrote, train and valid in one."""
    split = np.array(table["split"].to_pylist())
    return replace(examples_of(table, config), train=split == "train", valid=split == "valid")


def schema_of(config: ClassifierConfig) -> pa.Schema:
    ids, marked, numbers = (pa.large_list(kind) for kind in (pa.int32(), pa.int8(), pa.int64()))
    own = [pa.field("kind", pa.string()), pa.field("ids", ids), pa.field("pair", ids), pa.field("marked", marked)]
    labels = [pa.field(_column(task), numbers if task.multi_label else pa.int64()) for task in config.tasks]
    return pa.schema([*COMMON, *own, *labels])


def _column(task: Task) -> str:
    return f"label_{task.name}"


def flags(tokens: "TokenizedText", marks: Sequence[Mapping[str, Any]], length: int) -> np.ndarray:
    """Which tokens lie in a word that a highlight touches, [tokens]; one outside the text's `length` says nothing."""
    words = np.zeros(len(tokens.word_start), dtype=bool)
    for mark in marks:
        if 0 <= mark["start"] < mark["end"] <= length:
            words |= (tokens.word_start < mark["end"]) & (tokens.word_end > mark["start"])
    return words[tokens.word_of_token]
