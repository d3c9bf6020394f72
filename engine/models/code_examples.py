"""Labelled texts as examples of a training: tokens and labels as numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.code_calibrating import gold
from engine.models.code_task import Task, TaskConfig
from engine.models.columns import lists, matrix
from engine.models.examples import COMMON
from engine.models.tokens import INTS
from engine.sources.labelled.splits import TEST
from engine.storage import S3Config, use_s3
from engine.text.tokens import tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.text.tokens import TokenizedText


@dataclass(frozen=True)
class Encoding:
    """How texts become examples for a model of `config`, with the tokenizer of `encoder`."""

    config: TaskConfig
    encoder: str
    max_tokens: int

    @property
    def schema(self) -> pa.Schema:
        kinds = {task.name: pa.large_list(pa.int64()) if task.multi_label else pa.int64() for task in self.config.tasks}
        return pa.schema([*COMMON, pa.field("ids", INTS), *(pa.field(_column(task), kind) for task, kind in kinds.items())])

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        return load_tokenizer(encoder_folder(self.encoder))

    def __call__(self, texts: pa.Table) -> pa.Table:
        """Texts of train and valid as a table of `schema`; those without tokens are left out."""
        examples = self.encoded(texts.filter(pc.not_equal(texts["split"], TEST)))
        return examples.filter(pc.greater(pc.list_value_length(examples["ids"]), 0))

    def encoded(self, texts: pa.Table) -> pa.Table:
        """All texts, in their order."""
        tokens = tokenize(self.tokenizer, texts["text"].to_pylist(), self.max_tokens)
        return pa.table(self.columns(texts, tokens), schema=self.schema)

    def columns(self, texts: pa.Table, tokens: "Sequence[TokenizedText]") -> dict[str, Any]:
        columns: dict[str, Any] = {name: texts[name] for name in ("record_id", "split")}
        columns |= {"sample": pa.array([False] * len(texts)), "ids": lists([text.ids for text in tokens])}
        for task in self.config.tasks:
            numbers = self.numbers(task, texts)
            columns[_column(task.name)] = lists(list(numbers), np.int64) if task.multi_label else pa.array(numbers)
        return columns

    def numbers(self, task: Task, texts: pa.Table) -> np.ndarray:
        return gold(texts[task.name].to_pylist(), task)


def _column(task: str) -> str:
    return f"label_{task}"


def labels_of(table: pa.Table, tasks: Iterable[str]) -> dict[str, np.ndarray]:
    """The label numbers [n] or [n, labels] of each task, from examples."""
    columns = {task: table[_column(task)] for task in tasks}
    return {task: matrix(col) if pa.types.is_large_list(col.type) else col.to_numpy() for task, col in columns.items()}


@dataclass(frozen=True)
class Tokenize:
    """Reads and tokenizes a piece of the input, on any machine."""

    read: Callable[[Any], Iterable[pa.Table]]
    encoding: Encoding
    s3: S3Config

    def __call__(self, piece: Any) -> pa.Table:
        use_s3(self.s3)
        return pa.concat_tables([self.encoding.schema.empty_table(), *map(self.encoding, self.read(piece))])
