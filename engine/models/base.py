"""What a system is: the protocol between the models and all that is done with them.

A system is a package, here or anywhere, with a function `load(spec) -> System`, the name `TABLE` of the table that it fills, and
`Options`, what a run of it may set (see `engine.models.options`); importing it takes no torch. A system says nothing about files,
Ray, ids, retries or timing. The pipeline calls `prepare` in a CPU task and `run` in a model actor, with a whole shard each; the
same two calls in a row are the plain loop that the engine is measured against. Thresholds are settled on `scores`, and all is
measured there that a decision does not show.
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


def module_of(system: str, name: str) -> ModuleType | None:
    """A module that a system's package may have for one use, such as `benchmark`; None where it has no such module."""
    package = importlib.import_module(system)
    if not hasattr(package, "__path__") or importlib.util.find_spec(f"{system}.{name}") is None:
        return None
    return importlib.import_module(f"{system}.{name}")


class Worker(Protocol):
    """One of the processes that train, as the learner that is built in it sees it."""

    rank: int
    world: int
    device: "torch.device"

    def examples(self, folder: str) -> Stored:
        """The examples that a training has written to a folder."""


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


@dataclass(frozen=True)
class Phase:
    """A part of a training that has a loop of its own.

    `learner` is `module:function`, called in each worker as `function(settings, worker)` for an `engine.training.loop.Learner`.
    `settings` and `loop` are what is otherwise here than in the training as a whole. `between` is made once this phase has ended
    and no trainer holds the processors.

    The learner of a later phase, and a table between two, find among the settings `before`, the file with the tensors that the
    phase before it trained (see `read_tensors`), and `tables`, the path of each table that is made, by its name.
    """

    name: str
    learner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    between: SideTable | None = None


class Corpus(Protocol):
    """The labelled texts of a training, read and checked as far as must be known before anything is learned of them.

    `settings` are those of the training, with all that follows from the texts. `given` tells this input from another, in plain
    values.
    """

    settings: Mapping[str, Any]
    given: Any

    def changed(self) -> bool:
        """Whether what is still to be read is no longer what was given."""

    def lines(self) -> list[str]:
        """What to tell who waits: how many there are, what is left out and why."""

    def preparation(self) -> Preparation:
        """How they become examples."""


class Recipe(Protocol):
    """How a system is trained: what `System` is to answers. It is the module `recipe` of the system's package, quick to import,
    or what that module has as `RECIPE`.

    The settings of a training are plain values that travel: the sections of `Settings` with their keys, its single keys,
    `precision`, and `seed`, that of everything random. Of a checkpoint that is written only what `settle` finds is still open.
    """

    Settings: ClassVar[type]  # dataclass of keys: what `jobs.train` takes for this system, in sections such as data and learn

    def watched(self, settings: Mapping[str, Any]) -> Sequence[str]:
        """The figures on valid that a training may be ended by."""

    def corpus(self, settings: Mapping[str, Any]) -> Corpus:
        """Reads and checks the texts, and all settings against them.

        Raises:
            ConfigError: something could not be trained, or not be measured afterwards.
        """

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        """What is trained, one after the other."""

    def part(self, settings: Mapping[str, Any]) -> str:
        """The part of the checkpoint folder that this training makes, such as a further head; empty: all of it."""

    def write(self, folder: Path, corpus: Corpus, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
        """Writes a checkpoint with what the phases trained, of one name the last; returns how the product is to load it."""

    def settle(self, spec: ModelSpec, corpus: Corpus, say: Say) -> Mapping[str, Any]:
        """Finds thresholds and all else that is chosen, from what the product answers on valid, and writes it to the checkpoint;
        returns what belongs among the figures."""

    def measure(self, spec: ModelSpec, corpus: Corpus, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """The figures of the settled product on test, plain values, with those that `settle` found."""

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        """The model card as Markdown; `command` is what makes such a model."""

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        """The figures in a few lines."""

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
        """What the training was too small or too poor for, a line each."""


class Calibration(Protocol):
    """How a user's own labelled records set what a system decides by. It is the module `calibrate` of the system's package,
    quick to import."""

    # Dataclass of keys: what `jobs.calibrate` takes for this system, a section data among them; its method `options` gives those
    # of the system that is calibrated.
    Settings: ClassVar[type]

    # `module:function`, called as `function(system, settings, say, tell)` for a `Revision`, see `engine.models.revision`.
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
        ConfigError: it cannot be.
    """
    return _part(system, "calibrate", "calibrated")


def _part(system: str, name: str, done: str) -> Any:
    """A module of a system's package, without which something cannot be done with it."""
    try:
        module = importlib.import_module(f"{system}.{name}")
    except ModuleNotFoundError as error:
        if error.name not in (system, f"{system}.{name}"):
            raise
        raise ConfigError(f"model.system: {system} cannot be {done}; it has no {name}") from None
    return getattr(module, name.upper(), module)


def read_tensors(path: str) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file, on any storage, by name."""
    from safetensors.torch import load

    data = storage_for(path).read(path)
    if data is None:
        raise ContractError("the tensors of a phase are not there")
    return load(data)
