"""The base of systems for texts: loading by checkpoint and options; threads, device and precision; network and tokenizer built at
first use; texts to tokens; windows to batches within a budget; and rows from plain values."""

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

    A system names its options and its table, and implements how to read its checkpoint (`read`) and turn it into a network
    (`build`), its columns (`fields`) and rows (`rows`), and its possible answers (`known`). If these are labels of a whole text,
    `predict` gives their logits, and `scores` works without further code.

    A checkpoint has `folder`, `digest` and `config`. To use `batches`, its config needs `window` (tokens of text) and `special`.
    """

    table: ClassVar[str]
    Options: ClassVar[type[TextOptions]]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        self.checkpoint, self.config, self.digest = checkpoint, checkpoint.config, checkpoint.digest
        self.options = options
        self.device = str(runtime.get("device", "cpu"))
        self.threads = int(runtime.get("threads", 0))
        # The batch composition affects the last bits, so with `deterministic` it must not depend on the machine.
        self.budget = _BUDGET if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """The system that a spec describes; weights are read at first use.

        Raises:
            ConfigError: the system has no such option, or the checkpoint is missing, damaged or of another system.
        """
        options = options_from(cls.Options, spec.options)
        return cls(cls.read(spec.path, options), options, spec.runtime)

    @classmethod
    def read(cls, path: str, options: Any) -> Any:
        """The verified checkpoint at a path, without weights."""
        raise NotImplementedError

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        """The network with its trained weights, on the CPU."""
        raise NotImplementedError

    def fields(self) -> list[pa.Field]:
        raise NotImplementedError

    def known(self) -> Mapping[str, Sequence[str]]:
        raise NotImplementedError

    def rows(self, prepared: pa.Table) -> Iterable[Mapping[str, Any]]:
        """One row for each prepared row, in any order: its key `row` and the columns of `fields`; missing ones are null."""
        raise NotImplementedError

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        """Logits [records, labels] of each task of `known`."""
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.checkpoint.folder)

    @cached_property
    def network(self) -> Any:
        import torch

        # The number of threads affects how sums are split, and so the last bits.
        set_threads(1 if self.options.deterministic else self.threads)
        # The first prediction may come in inference mode, in which new weights could never have gradients.
        with torch.inference_mode(False):
            return self.build(pick_precision(self.options.precision, self.device)).to(self.device)

    def limits(self) -> Mapping[str, str]:
        return {}

    def auto(self) -> Mapping[str, Sequence[str]]:
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        return tokens.prepare(records, self.tokenizer, self.options.max_tokens)

    def scores(self, prepared: pa.Table) -> pa.Table:
        """`row`, and for each task of `known` its logits as `<task>_logits`, in the order of its labels."""
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
        """All windows of prepared rows in batches of whole records, with the records' places among the rows."""
        ids, pairs, counts = list_values(prepared["input_ids"]), _pairs(prepared), self.window_counts(prepared)
        keys = prepared["row"].to_pylist()
        lengths = [-(-len(text) // max(1, count)) + 2 for text, count in zip(ids, counts, strict=True)]
        cut = {"window": self.config.window, "special": self.config.special}
        for members in self.together(counts, lengths):
            columns = ([column[member] for member in members] for column in (keys, ids))
            batch = tokens.collate(*columns, **cut, pairs=[pairs[member] for member in members])
            yield members, batch.to(self.device)

    def together(self, windows: Sequence[int], lengths: Sequence[int], budget: int | None = None) -> list[list[int]]:
        """Batches, see `token_budget_batches`: within the given budget or else the run's; with `deterministic` each record
        alone."""
        return token_budget_batches(windows, lengths, 1 if self.options.deterministic else budget or self.budget)


def _pairs(prepared: pa.Table) -> Sequence[np.ndarray | None]:
    """The tokens of each row's second text, None without one."""
    return list_values(prepared["pair_ids"]) if "pair_ids" in prepared.column_names else [None] * len(prepared)
