"""The base class of systems with a checkpoint, whatever they read.

It loads a checkpoint with options, sets threads, device and precision, builds the network at first use, and turns plain values
into rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa

from engine.encoders import pick_precision, set_threads
from engine.keys import options_from
from engine.models.base import ModelSpec
from engine.records import FAILURE

if TYPE_CHECKING:
    import torch
    from torch import nn


class CheckpointSystem:
    """See `engine.models.base.System`.

    A subclass sets `Options`, with `precision` and `deterministic` among them, `reads` and `table`. It implements `read` (its
    checkpoint, with `folder`, `digest` and `config`), `build` (the network), `fields`, `rows`, `known`, `prepare` and `scores`.
    """

    reads: ClassVar[str]
    table: ClassVar[str]
    Options: ClassVar[type]

    def __init__(self, checkpoint: Any, options: Any, runtime: Mapping[str, Any]) -> None:
        self.checkpoint, self.config, self.digest = checkpoint, checkpoint.config, checkpoint.digest
        self.options = options
        self.device = str(runtime.get("device", "cpu"))
        self.threads = int(runtime.get("threads", 0))

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

    def run(self, prepared: pa.Table) -> pa.Table:
        schema = pa.schema([pa.field("row", pa.int32()), pa.field("failure", FAILURE), *self.fields()])
        return pa.Table.from_pylist(list(self.rows(prepared)), schema=schema)
