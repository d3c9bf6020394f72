"""What a system is: the protocol between the models and all that is done with them.

A system is a package, here or anywhere, with a function `load(spec) -> System`, the name `TABLE` of the table that it fills, and
`Options`, what a run of it may set (see `engine.models.options`); importing it takes no torch. A system says nothing about files,
Ray, ids, retries or timing. The pipeline calls `prepare` in a CPU task and `run` in a model actor, with a whole shard each; the
same two calls in a row are the plain loop that the engine is measured against. Thresholds are settled on `scores`, and all is
measured there that a decision does not show.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True)
class ModelSpec:
    """Everything a worker needs to build a system: plain values only, so that it travels and can be fingerprinted.

    `system` is the package to import, `path` the checkpoint folder, `options` the settings that change a value in a row
    (they are part of the run's fingerprint), `runtime` those that do not (threads, batch size, device).
    """

    system: str
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


class System(Protocol):
    """One of the systems, built from a `ModelSpec`. Building it is cheap; weights are loaded by the first `run`."""

    table: str  # the result table's name, "codes"
    digest: str  # of the checkpoint, verified against its files

    def fields(self) -> list[pa.Field]:
        """The system's own columns of the result table, in order. `decision` is among them, `reasons` if it has any."""

    def limits(self) -> Mapping[str, str]:
        """What this model never does under these options: a line for people, by the reason that tells of it in a row."""

    def prepare(self, records: pa.Table) -> pa.Table:
        """CPU part: texts to tokens with offsets.

        Args:
            records: readable rows only, as `engine.records.records_schema` has them, without `failure`.
        Returns:
            `row`, `record_id`, `failure` and the system's own columns, without the text; as many rows as came in, each key once.
            A record that cannot be prepared has its `failure` set.
        """

    def scores(self, prepared: pa.Table) -> pa.Table:
        """Model part without any decision or evidence: the raw answers to each prepared row, from which thresholds and
        probabilities can be settled without the network.

        Returns:
            `row`, each key once, and the system's own columns: logits of every label, candidate spans.
        """

    def run(self, prepared: pa.Table) -> pa.Table:
        """Model part: one row for each prepared row without failure.

        Returns:
            `row`, `failure` and every column of `fields()`, in any order, each key once.
        """

    def known(self) -> Mapping[str, Sequence[str]]:
        """What it can answer under its options: the codes of each task, or of entities `{"entities": types}`."""

    def auto(self) -> Mapping[str, Sequence[str]]:
        """Of these the answers that its options let through without a person; empty where that does not depend on the answer."""


def systems() -> dict[str, str]:
    """The packages of the systems that come along, each with the name of the table that it fills."""
    found = {}
    for package in pkgutil.iter_modules(importlib.import_module(__package__).__path__, f"{__package__}."):
        table = getattr(importlib.import_module(package.name), "TABLE", None) if package.ispkg else None
        if table is not None:
            found[package.name] = table
    return found


def load(spec: ModelSpec) -> System:
    """The system that a spec describes."""
    return importlib.import_module(spec.system).load(spec)


@dataclass(frozen=True)
class SideTable:
    """A table of what a system must know of a whole corpus, made of many parts in plain Python (see `engine.pipeline.tables`).

    Args:
        name: that of its folder.
        schema: of the table, and of what is made of each part.
        parts: plain values; what the work is divided into.
        map: `module:function`, called as `function(part, settings) -> pa.Table`.
        reduce: `module:function`, called as `function(tables, settings) -> pa.Table`, the tables in the order of their parts. It
            is associative: a table that it made of the first parts may stand in their place.
    """

    name: str
    schema: pa.Schema
    parts: Sequence[Any]
    map: str
    reduce: str
