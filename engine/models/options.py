"""Settings of a system in a run: one flat dataclass of keys, which the system's package exports as `Options`.

Field names are those used in Python (`rows(texts, options={"spans": 3})`) and in a run's fingerprint; `at` is the name on a
command line. Jobs can run only packages with `Options`.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from engine.errors import ConfigError
from engine.keys import key
from engine.models.base import ModelSpec
from engine.records import TEXT

# The key with which every system that gives evidence names its method, and the value for no evidence.
EVIDENCE, NONE = "explain.method", "none"
_EXPLAIN = "explain."


@dataclass(frozen=True)
class SystemOptions:
    """Settings that change a value in a row; they are part of a run's fingerprint."""

    def completed(self, kept: Sequence[str]) -> dict[str, Any]:
        """The options for a `ModelSpec`, completed from other places than the command line; the records keep the columns `kept`.

        Raises:
            ConfigError: they name something that is missing.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class TextOptions(SystemOptions):
    """Options of all systems for texts. With `deterministic` each report is a batch of its own, so nothing depends on its
    neighbours."""

    max_tokens: int = key(
        16_384,
        "Tokens read of a report. The rest is counted in truncated_chars and sends the report to review.",
        at="text.max_tokens",
        low=16,
    )
    precision: str = key(
        "auto",
        "Arithmetic of the encoder; auto decides by the hardware.",
        at="cluster.precision",
        choices=("auto", "fp32", "bf16"),
    )
    deterministic: bool = key(
        False,
        "Make rows the same bit for bit, whatever the batches and shards. Slower, because each report is processed alone.",
        at="deterministic",
    )


@dataclass(frozen=True)
class ImageOptions(SystemOptions):
    """Options of all systems that read images. With `deterministic` each image is a batch of its own, so nothing depends on its
    neighbours."""

    max_pixels: int = key(
        64_000_000,
        "A file with more pixels than this, all frames together, is not decoded (too_many_pixels).",
        at="images.max_pixels",
        low=1,
    )
    max_frames: int = key(
        16, "Frames read of a file; of one with more, evenly spread from the first to the last.", at="images.max_frames", low=1
    )
    precision: str = key(
        "auto",
        "Arithmetic of the encoder; auto decides by the hardware.",
        at="cluster.precision",
        choices=("auto", "fp32", "bf16"),
    )
    deterministic: bool = key(
        False,
        "Make rows the same bit for bit, whatever the batches and shards. Slower, because each image is processed alone.",
        at="deterministic",
    )


@dataclass(frozen=True)
class CodeOptions(TextOptions):
    """Options of all systems of codes. `thresholds` override the checkpoint's, by task; `min_support` is the least number of real
    training texts of a code."""

    thresholds: Mapping[str, float] = key(
        {},
        "Lowest probability at which a task is sure, such as {site: 0.97}; for other tasks the checkpoint's own.",
        at="decision.thresholds",
        low=0.0,
        high=1.0,
    )
    min_support: int = key(
        10, "A code with fewer training reports than this always goes to review.", at="decision.min_support", low=0
    )


@dataclass(frozen=True)
class TextSettings:
    """Calibration settings of all systems for texts: the options of a run that affect their scores."""

    max_tokens: int = key(
        TextOptions.max_tokens, "Tokens read of a report; use the same value as text.max_tokens in your runs.", low=16
    )
    precision: str = key(
        "auto", "Arithmetic of the encoder; use the same value as in your runs.", choices=("auto", "fp32", "bf16")
    )

    def options(self) -> dict[str, Any]:
        """Options of the system to calibrate."""
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


def reads_of(package: str) -> str:
    """What the records of the system in a package hold: TEXT or IMAGES of `engine.records`."""
    return getattr(importlib.import_module(package), "READS", TEXT)


def with_options(spec: ModelSpec, **changed: Any) -> ModelSpec:
    """The spec with some options replaced."""
    return replace(spec, options={**spec.options, **changed})


def without_evidence(spec: ModelSpec) -> ModelSpec:
    """The spec of the same system without evidence; unchanged if it never gives any."""
    at = {field.name: field.metadata.get("at") or "" for field in fields(options_of(spec.system))}
    kept = {name: value for name, value in spec.options.items() if not at.get(name, "").startswith(_EXPLAIN)}
    return replace(spec, options=kept | {name: NONE for name, place in at.items() if place == EVIDENCE})
