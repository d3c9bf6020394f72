"""The base class of systems that read texts.

It tokenizes texts, groups their windows into batches within a budget of tokens, and gives the logits of labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from engine.batching import token_budget_batches
from engine.encoders import load_tokenizer
from engine.models import tokens
from engine.models.checkpoint_system import CheckpointSystem
from engine.models.columns import list_values, matrix_column
from engine.models.options import TextOptions
from engine.records import TEXT
from engine.text.windows import window_count

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.tokens import Batch

_BUDGET = 4096


class TokenSystem(CheckpointSystem):
    """See `engine.models.base.System`.

    Beside what `CheckpointSystem` asks for, a subclass whose answers are labels of whole texts implements `predict` (their
    logits), and `scores` needs no code of its own; otherwise it overrides `scores`. `batches` needs `window` (tokens of text) and
    `special` in the checkpoint's config.
    """

    reads = TEXT
    Options: ClassVar[type[TextOptions]]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        # The composition of a batch affects the last bits of a result, so with `deterministic` it must not depend on the machine.
        self.budget = _BUDGET if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        """Logits [records, labels] by task of `known`."""
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.checkpoint.folder)

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
