"""The protocol between systems and everything that uses them.

A system is a package, here or anywhere, with a function `load(spec) -> System`, the name `TABLE` of the table that it fills, and
`Options`, the settings of a run (see `engine.models.options`); one for images has `READS = IMAGES` too. Importing it does not
import torch. A system knows nothing about files, Ray, ids, retries or timing. The pipeline calls `prepare` in a CPU task and
`run` in a model actor, each with a whole shard; the same two calls in a row are the plain loop that the engine is measured
against. Thresholds, and measures that need more than a decision, use `scores`.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa

from engine.errors import ConfigError, ContractError
from engine.models.examples import Preparation, Stored
from engine.storage import storage_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Say = Callable[[str], None]


@dataclass(frozen=True)
class ModelSpec:
    """Everything a worker needs to build a system: plain values only, so it can be sent and fingerprinted.

    `system` is the package to import, `path` the checkpoint folder, `options` the settings that change a value in a row (part of
    the run's fingerprint), `runtime` those that do not (threads, batch size, device).
    """

    system: str
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


class System(Protocol):
    """A system, built from a `ModelSpec`. Building it is cheap; the first `run` loads the weights."""

    table: str  # the result table's name, "codes"
    reads: str  # what its records hold, and their column with it: TEXT or IMAGES of `engine.records`
    digest: str  # of the checkpoint, verified against its files

    def fields(self) -> list[pa.Field]:
        """The system's own columns of the result table, in order: `decision`, `reasons` if it has any, and others."""

    def limits(self) -> Mapping[str, str]:
        """What this model can never do under these options: a line for people, by the reason that a row gives for it."""

    def prepare(self, records: pa.Table) -> pa.Table:
        """CPU part: texts to tokens with offsets, or images to pixels with the way back to the files' own.

        Args:
            records: readable rows only, as `engine.records.records_schema` has them, without `failure`.
        Returns:
            `row`, `record_id`, `failure` and the system's own columns, without the text or the files' bytes: one row for each
            record, by its key. A record that cannot be prepared has its `failure` set.
        """

    def scores(self, prepared: pa.Table) -> pa.Table:
        """Model part without decisions and evidence: raw answers to each prepared row, from which thresholds and probabilities
        can be fitted without the network.

        Returns:
            `row`, each key once, and the system's own columns: logits of every label, candidate spans.
        """

    def run(self, prepared: pa.Table) -> pa.Table:
        """Model part: one row for each prepared row without failure.

        Returns:
            `row`, `failure` and every column of `fields()`, in any order, each key once.
        """

    def known(self) -> Mapping[str, Sequence[str]]:
        """The possible answers under its options: the codes of each task, or `{"entities": types}`."""

    def auto(self) -> Mapping[str, Sequence[str]]:
        """Those of them that its options let through without a person; empty if that does not depend on the answer."""


def systems() -> dict[str, str]:
    """The packages of the systems that come with the engine, each with the name of the table that it fills."""
    modules = pkgutil.iter_modules(importlib.import_module(__package__).__path__, f"{__package__}.")
    names = [module.name for module in modules if module.ispkg]
    tables = {name: getattr(importlib.import_module(name), "TABLE", None) for name in names}
    return {name: table for name, table in tables.items() if table is not None}


def load(spec: ModelSpec) -> System:
    """The system that a spec describes."""
    return importlib.import_module(spec.system).load(spec)


def module_of(system: str, name: str) -> ModuleType | None:
    """An optional module of a system's package, such as `benchmark`; None if it has no such module.

    Raises:
        ConfigError: there is no such package.
    """
    try:
        package = importlib.import_module(system)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{system}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"model.system: {system} cannot be imported: {error}") from None
    if not hasattr(package, "__path__") or importlib.util.find_spec(f"{system}.{name}") is None:
        return None
    return importlib.import_module(f"{system}.{name}")


class Worker(Protocol):
    """A process that trains, as its learner sees it."""

    rank: int
    world: int
    device: "torch.device"

    def examples(self, folder: str) -> Stored:
        """The examples that the training wrote to a folder."""


@dataclass(frozen=True)
class SideTable:
    """A table about a whole corpus, built from parts in plain Python (see `engine.pipeline.tables`).

    Args:
        name: of its folder.
        schema: of the table, and of the table of each part.
        parts: plain values that divide the work.
        map: `module:function`, called as `function(part, settings) -> pa.Table`.
        reduce: `module:function`, called as `function(tables, settings) -> pa.Table`, the tables in the order of their parts. It
            is associative: its result for the first parts may replace their tables.
    """

    name: str
    schema: pa.Schema
    parts: Sequence[Any]
    map: str
    reduce: str


@dataclass(frozen=True)
class Phase:
    """A part of a training with a loop of its own.

    `learner` is `module:function`, called in each worker as `function(settings, worker)`; it returns an
    `engine.training.loop.Learner`. `settings` and `loop` override those of the training. `needs` are tables that are built, one
    after the other, before this phase, when no trainer uses the processors.

    In later phases, and for their tables, the settings have `before`, the file with the tensors of the previous phase (see
    `read_tensors`). `tables` has the path of each table that is finished, by name.
    """

    name: str
    learner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[SideTable] = ()


class Corpus(Protocol):
    """The labelled texts of a training, read and checked as far as necessary before training.

    `settings` are those of the training, completed from the texts. `given` identifies the input, in plain values.
    """

    settings: Mapping[str, Any]
    given: Any

    def changed(self) -> bool:
        """Whether the input has changed since it was read."""

    def lines(self) -> list[str]:
        """Progress lines: how many texts there are, what is left out and why."""

    def preparation(self) -> Preparation:
        """How the texts become examples."""


class Recipe(Protocol):
    """How a system is trained. It is the module `recipe` of the system's package, or `RECIPE` in that module; quick to import.

    The settings of a training are plain values: the sections of `Settings` with their keys, its single keys, `precision`, and the
    `seed` of everything random. `write` writes everything of a checkpoint except what `settle` finds.
    """

    Settings: ClassVar[type]  # dataclass of keys: what `jobs.train` takes for this system, in sections such as data and learn

    def watched(self, settings: Mapping[str, Any]) -> Sequence[str]:
        """The figures on valid that may stop a training early."""

    def corpus(self, settings: Mapping[str, Any]) -> Corpus:
        """Reads and checks the texts, and checks all settings against them.

        Raises:
            ConfigError: something could not be trained, or not be measured afterwards.
        """

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        """The phases of the training, in order."""

    def part(self, settings: Mapping[str, Any]) -> str:
        """The part of the checkpoint folder that this training writes, such as a further head; empty for all of it."""

    def write(self, folder: Path, corpus: Corpus, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
        """Writes a checkpoint with the trained tensors, of equal names the last; returns the spec that loads it."""

    def settle(self, spec: ModelSpec, corpus: Corpus, say: Say) -> Mapping[str, Any]:
        """Fits thresholds and whatever else is chosen to the product's answers on valid, and writes it to the checkpoint; returns
        what belongs to the figures."""

    def measure(self, spec: ModelSpec, corpus: Corpus, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """The figures of the settled product on test, plain values, including those of `settle`."""

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        """The model card as Markdown; `command` is the command that trains such a model."""

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        """The figures in a few lines."""

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
        """A warning line for everything that the training was too small or too poor for."""


class Calibration(Protocol):
    """How a user's labelled records set a system's thresholds. It is the module `calibrate` of the system's package, quick to
    import."""

    # Dataclass of keys: what `jobs.calibrate` takes for this system, with a section data; its method `options` returns the
    # options of the system to calibrate.
    Settings: ClassVar[type]

    # `module:function`, called as `function(system, settings, say, tell)`; it returns a `Revision`, see `engine.models.revision`.
    WORK: ClassVar[str]


def recipe(system: str) -> Recipe:
    """The recipe of a system's package.

    Raises:
        ConfigError: it has none.
    """
    return _part(system, "recipe", "trained")


def calibration(system: str) -> Calibration:
    """How a system is calibrated.

    Raises:
        ConfigError: it cannot be calibrated.
    """
    return _part(system, "calibrate", "calibrated")


def _part(system: str, name: str, done: str) -> Any:
    """A module of a system's package that some jobs require."""
    module = module_of(system, name)
    if module is None:
        raise ConfigError(f"model.system: {system} cannot be {done}; it has no {name}")
    return getattr(module, name.upper(), module)


def read_tensors(path: str) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file, on any storage, by name."""
    from safetensors.torch import load

    data = storage_for(path).read(path)
    if data is None:
        raise ContractError("the tensors of a phase are missing")
    return load(data)
