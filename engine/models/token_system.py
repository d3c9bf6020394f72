"""The base class of systems that read texts.

It loads a checkpoint with options, sets threads, device and precision, builds network and tokenizer at first use, tokenizes
texts, groups their windows into batches within a budget of tokens, and turns plain values into rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from engine.batching import token_budget_batches
from engine.encoders import load_tokenizer, pick_precision, set_threads
from engine.keys import options_from
from engine.models import tokens
from engine.models.base import ModelSpec
from engine.models.columns import list_values, matrix_column
from engine.models.options import TextOptions
from engine.records import FAILURE
from engine.text.windows import window_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.models.tokens import Batch

_BUDGET = 4096


class TokenSystem:
    """See `engine.models.base.System`.

    A subclass sets `Options` and `table`. It implements `read` (its checkpoint), `build` (the network), `fields` (the columns of
    a row), `rows` and `known` (the possible answers). If the answers are labels of whole texts, it implements `predict` (their
    logits), and `scores` needs no code of its own; otherwise it overrides `scores`.

    A checkpoint has `folder`, `digest` and `config`. `batches` needs `window` (tokens of text) and `special` in the config.
    """

    table: ClassVar[str]
    Options: ClassVar[type[TextOptions]]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        self.checkpoint, self.config, self.digest = checkpoint, checkpoint.config, checkpoint.digest
        self.options = options
        self.device = str(runtime.get("device", "cpu"))
        self.threads = int(runtime.get("threads", 0))
        # The composition of a batch affects the last bits of a result, so with `deterministic` it must not depend on the machine.
        self.budget = _BUDGET if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """The system that a spec describes; its weights are read at first use.

        Raises:
            ConfigError: the system has no such option, or the checkpoint is missing, damaged or of another system.
        """
        options = options_from(cls.Options, spec.options)
        return cls(cls.read(spec.path, options), options, spec.runtime)

    @classmethod
    def read(cls, path: str, options: Any) -> Any:
        """The checkpoint at a path, verified, without its weights."""
        raise NotImplementedError

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        """The network with its trained weights, on the CPU."""
        raise NotImplementedError

    def fields(self) -> list[pa.Field]:
        raise NotImplementedError

    def known(self) -> Mapping[str, Sequence[str]]:
        raise NotImplementedError

    def rows(self, prepared: pa.Table) -> Iterable[Mapping[str, Any]]:
        """One row for each prepared row, in any order: its key `row` and the columns of `fields`; a missing column is null."""
        raise NotImplementedError

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        """Logits [records, labels] by task of `known`."""
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.checkpoint.folder)

    @cached_property
    def network(self) -> Any:
        import torch

        # The number of threads affects how sums are split, and so the last bits of a result.
        set_threads(1 if self.options.deterministic else self.threads)
        # The first prediction may run in inference mode; weights created in that mode could never have gradients.
        with torch.inference_mode(False):
            return self.build(pick_precision(self.options.precision, self.device)).to(self.device)

    def limits(self) -> Mapping[str, str]:
        return {}

    def auto(self) -> Mapping[str, Sequence[str]]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        return tokens.prepare(records, self.tokenizer, self.options.max_tokens)

    def scores(self, prepared: pa.Table) -> pa.Table:
        """The columns `row` and, for each task of `known`, `<task>_logits`: logits in the order of its labels."""
        import torch

        logits = {task: np.zeros((len(prepared), len(labels)), np.float32) for task, labels in self.known().items()}
        with torch.inference_mode():
            for members, batch in self.batches(prepared):
                for task, values in self.predict(batch).items():
                    logits[task][members] = values.float().cpu().numpy()
        return pa.table({"row": prepared["row"], **{f"{task}_logits": matrix_column(rows) for task, rows in logits.items()}})

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        return pa.Table.from_pylist(list(self.rows(prepared)), schema=schema)

    def window_counts(self, prepared: pa.Table) -> list[int]:
        """The number of windows of each prepared row in `batches`."""
        texts = zip(list_values(prepared["input_ids"]), _pairs(prepared), strict=True)
        return [window_count(len(ids), tokens.room(self.config.window, pair)) for ids, pair in texts]

    def batches(self, prepared: pa.Table) -> "Iterator[tuple[list[int], Batch]]":
        """All windows of the prepared rows. A batch has whole records and comes with their positions among the rows."""
        ids, pairs, counts = list_values(prepared["input_ids"]), _pairs(prepared), self.window_counts(prepared)
        keys = prepared["row"].to_pylist()
        lengths = [-(-len(text) // max(1, count)) + 2 for text, count in zip(ids, counts, strict=True)]
        layout = {"window": self.config.window, "special": self.config.special}
        for members in self.together(counts, lengths):
            columns = ([column[member] for member in members] for column in (keys, ids))
            batch = tokens.collate(*columns, **layout, pairs=[pairs[member] for member in members])
            yield members, batch.to(self.device)

    def together(self, windows: Sequence[int], lengths: Sequence[int], budget: int | None = None) -> list[list[int]]:
        """Positions of records grouped into batches, see `token_budget_batches`; with `deterministic` each record is a batch.

        `budget` overrides that of the system.
        """
        return token_budget_batches(windows, lengths, 1 if self.options.deterministic else budget or self.budget)


def _pairs(prepared: pa.Table) -> Sequence[np.ndarray | None]:
    """The tokens of each row's second text; None for a row without one."""
    return list_values(prepared["pair_ids"]) if "pair_ids" in prepared.column_names else [None] * len(prepared)
