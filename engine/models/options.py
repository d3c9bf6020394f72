"""What a run may set of a system: one flat dataclass of keys, which the system's package exports as `Options`.

The names of its fields are those of Python (`rows(texts, options={"spans": 3})`) and of a run's fingerprint; `at` gives each its
name on a command line. A package without `Options` is no system that a job can run.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.base import ModelSpec

# The key under which every system that gives evidence names the way it is found, and its value for none.
EVIDENCE, NONE = "explain.method", "none"


@dataclass(frozen=True)
class SystemOptions:
    """Settings that change a value in a row; they are part of a run's fingerprint."""

    def completed(self, kept: Sequence[str]) -> dict[str, Any]:
        """The options of a run over records that keep the columns `kept`, as a `ModelSpec` has them: with all that other places
        than a command line say.

        Raises:
            ConfigError: they want something that is not there.
        """
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class TextOptions(SystemOptions):
    """What all systems that read texts take. `deterministic` gives each report a batch of its own, so that nothing depends on its
    neighbours."""

    max_tokens: int = key(
        16_384,
        "Tokens read of a report. What lies beyond is counted in truncated_chars and sends the report to review.",
        at="text.max_tokens",
        low=16,
    )
    precision: str = key(
        "auto",
        "Arithmetic of the encoder; auto goes by the hardware.",
        at="cluster.precision",
        choices=("auto", "fp32", "bf16"),
    )
    deterministic: bool = key(
        False, "The same bits whatever the batches and shards: slower, each report goes alone.", at="deterministic"
    )


@dataclass(frozen=True)
class CodeOptions(TextOptions):
    """What all systems of codes take. `thresholds` go before the checkpoint's, task by task; `min_support` is the number of real
    training texts that a code must have had."""

    thresholds: Mapping[str, float] = key(
        {},
        "Probability from which a task is sure, such as {site: 0.97}; without one the checkpoint's own.",
        at="decision.thresholds",
        low=0.0,
        high=1.0,
    )
    min_support: int = key(
        10, "A code with fewer training reports than this always goes to review.", at="decision.min_support", low=0
    )


@dataclass(frozen=True)
class TextSettings:
    """What all systems that read texts take to be calibrated: the options of a run that their scores depend on."""

    max_tokens: int = key(TextOptions.max_tokens, "Tokens read of a report; as text.max_tokens of the runs to come.", low=16)
    precision: str = key("auto", "Arithmetic of the encoder; as in the runs to come.", choices=("auto", "fp32", "bf16"))

    def options(self) -> dict[str, Any]:
        """Those of the system that is calibrated."""
        return {"max_tokens": self.max_tokens, "precision": self.precision}


def options_of(package: str) -> type[SystemOptions]:
    """The options of the system in a package.

    Raises:
        ConfigError: the package cannot be imported, or is no system.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"model.system: {package} cannot be imported: {error}") from None
    options = getattr(module, "Options", None)
    if not (isinstance(options, type) and issubclass(options, SystemOptions)):
        raise ConfigError(f"model.system: {package} is no system that a job can run, it has no Options")
    return options


def with_options(spec: ModelSpec, **changed: Any) -> ModelSpec:
    """The spec with some options replaced."""
    return replace(spec, options={**spec.options, **changed})


def without_evidence(spec: ModelSpec) -> ModelSpec:
    """The spec of the same system that gives no evidence: the same spec where it never gives any."""
    names = [each.name for each in fields(options_of(spec.system)) if each.metadata.get("at") == EVIDENCE]
    return with_options(spec, **dict.fromkeys(names, NONE))
