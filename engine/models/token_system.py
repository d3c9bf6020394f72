"""The base of systems for texts: what none of them needs to say again.

Loading by checkpoint and options, threads, device and precision, network and tokenizer made at their first use, texts to tokens,
windows to batches within a budget, and rows from plain values.
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
from engine.models.base import ModelSpec, Say
from engine.models.columns import list_values, matrix, matrix_column
from engine.models.options import TextOptions
from engine.models.run import records_of
from engine.records import FAILURE
from engine.text.windows import window_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from engine.models.tokens import Batch

_BUDGET = 4096
_TOGETHER = 1024


class TokenSystem:
    """See `engine.models.base.System`.

    A system says which options it takes and which table it fills, how its checkpoint is read (`read`) and becomes a network
    (`build`), which columns it fills (`fields`) with what (`rows`), and what it can answer (`known`). Where that are labels of a
    whole text, `predict` gives their logits, and `scores` follows.

    A checkpoint has `folder`, `digest` and `config`; its config has `window` (tokens of text) and `special` where `batches` are
    used, or a system cuts windows of its own.
    """

    table: ClassVar[str]
    Options: ClassVar[type[TextOptions]]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        self.checkpoint, self.config, self.digest = checkpoint, checkpoint.config, checkpoint.digest
        self.options = options
        self.device = str(runtime.get("device", "cpu"))
        self.threads = int(runtime.get("threads", 0))
        # How windows pass together decides the last bits: with `deterministic` by nothing that a machine may choose.
        self.budget = _BUDGET if options.deterministic else int(runtime.get("batch_tokens", _BUDGET))

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """The system that a spec describes; weights are read at their first use.

        Raises:
            ConfigError: the system knows no such option, or the checkpoint is not there, damaged or of another system.
        """
        options = options_from(cls.Options, spec.options)
        return cls(cls.read(spec.path, options), options, spec.runtime)

    @classmethod
    def read(cls, path: str, options: Any) -> Any:
        """The verified checkpoint at a path, without its weights."""
        raise NotImplementedError

    def build(self, dtype: "torch.dtype") -> "nn.Module":
        """The network with its trained weights, on the CPU."""
        raise NotImplementedError

    def fields(self) -> list[pa.Field]:
        """See `engine.models.base.System`."""
        raise NotImplementedError

    def known(self) -> Mapping[str, Sequence[str]]:
        """See `engine.models.base.System`."""
        raise NotImplementedError

    def rows(self, prepared: pa.Table) -> Iterable[Mapping[str, Any]]:
        """One row for each prepared row, in any order: its key `row` and the columns of `fields`; what is not named is null."""
        raise NotImplementedError

    def predict(self, batch: "Batch") -> "Mapping[str, Tensor]":
        """Logits [records, labels] of each task of `known`."""
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        return load_tokenizer(self.checkpoint.folder)

    @cached_property
    def network(self) -> Any:
        """The network, ready to predict on the device."""
        import torch

        # The number of threads decides how a sum is split, and with it the last bits.
        set_threads(1 if self.options.deterministic else self.threads)
        # Weights made in inference mode, where the first prediction may ask for them, would be closed to gradients for good.
        with torch.inference_mode(False):
            return self.build(pick_precision(self.options.precision, self.device)).to(self.device)

    def limits(self) -> Mapping[str, str]:
        """See `engine.models.base.System`."""
        return {}

    def auto(self) -> Mapping[str, Sequence[str]]:
        """See `engine.models.base.System`."""
        return {}

    def prepare(self, records: pa.Table) -> pa.Table:
        """See `engine.models.base.System`."""
        return tokens.prepare(records, self.tokenizer, self.options.max_tokens)

    def scores(self, prepared: pa.Table) -> pa.Table:
        """`row`, and for each task of `known` its logits as `<task>_logits`, in the order of its labels."""
        import torch

        found = {task: np.zeros((len(prepared), len(labels)), np.float32) for task, labels in self.known().items()}
        with torch.inference_mode():
            for members, batch in self.batches(prepared):
                for task, values in self.predict(batch).items():
                    found[task][members] = values.float().cpu().numpy()
        return pa.table({"row": prepared["row"], **{f"{task}_logits": matrix_column(rows) for task, rows in found.items()}})

    def run(self, prepared: pa.Table) -> pa.Table:
        """See `engine.models.base.System`."""
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        return pa.Table.from_pylist(list(self.rows(prepared)), schema=schema)

    def window_counts(self, prepared: pa.Table) -> list[int]:
        """How many windows each prepared row has in `batches`."""
        texts = zip(list_values(prepared["input_ids"]), _pairs(prepared), strict=True)
        return [window_count(len(ids), tokens.room(self.config.window, pair)) for ids, pair in texts]

    def batches(self, prepared: pa.Table) -> "Iterator[tuple[list[int], Batch]]":
        """All windows of prepared rows in batches of whole records, with the places of these among the rows."""
        ids, pairs, counts = list_values(prepared["input_ids"]), _pairs(prepared), self.window_counts(prepared)
        keys = prepared["row"].to_pylist()
        lengths = [-(-len(text) // max(1, count)) + 2 for text, count in zip(ids, counts, strict=True)]
        for members in self.together(counts, lengths):
            batch = tokens.collate(
                [keys[m] for m in members],
                [ids[m] for m in members],
                window=self.config.window,
                special=self.config.special,
                pairs=[pairs[m] for m in members],
            )
            yield members, batch.to(self.device)

    def together(self, windows: Sequence[int], lengths: Sequence[int], budget: int | None = None) -> list[list[int]]:
        """What passes the network together, see `token_budget_batches`: within the run's budget or the one that is given, and
        with `deterministic` each alone."""
        return token_budget_batches(windows, lengths, 1 if self.options.deterministic else budget or self.budget)


def logits_of(system: TokenSystem, texts: pa.Table, say: Say) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """The texts that have tokens, and their logits [texts, labels] for each task of `known`.

    Args:
        texts: with `record_id`, `text` and, for a model that reads pairs, `pair`.
    """
    names = [name for name in ("record_id", "text", "pair") if name in texts.column_names]
    kept = [texts.slice(0, 0)]
    found = {task: [np.empty((0, len(labels)), np.float32)] for task, labels in system.known().items()}
    for at in range(0, len(texts), _TOGETHER):
        part = texts.slice(at, _TOGETHER)
        prepared = system.prepare(records_of(*(part[name].to_pylist() for name in names)))
        sound = prepared["failure"].is_null()
        kept.append(part.filter(sound))
        scores = system.scores(prepared.filter(sound))
        for task, parts in found.items():
            parts.append(matrix(scores[f"{task}_logits"]).reshape(-1, parts[0].shape[1]))
        say(f"scored {at + len(part):,} of {len(texts):,}")
    return pa.concat_tables(kept), {task: np.concatenate(parts) for task, parts in found.items()}


def _pairs(prepared: pa.Table) -> Sequence[np.ndarray | None]:
    """The tokens of each row's second text, None where it has none."""
    return list_values(prepared["pair_ids"]) if "pair_ids" in prepared.column_names else [None] * len(prepared)
