"""Facts of a finished run for the jobs that come after it: how it read its input, and which model it used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.keys import MISSING, key

if TYPE_CHECKING:
    from engine.models.base import ModelSpec, System
    from engine.pipeline import Summary

_OPTIONS = "model.options."


@dataclass
class RunFolder:
    path: str = key(MISSING, "Folder of the run, its output.path.", path=True)


def check_tables(summary: "Summary") -> None:
    """ConfigError if a run has published nothing yet."""
    if not summary.files:
        raise ConfigError(f"{summary.output} has no tables yet; let the run finish first")


def reading_of_run(summary: "Summary") -> dict[str, Any]:
    """The settings of `input.` that the run had, without its path."""
    return {name.removeprefix("input."): value for name, value in summary.settings.items() if name.startswith("input.")}


def deciding_of_run(summary: "Summary", tasks: Sequence[str]) -> Sequence[str]:
    """The tasks of a table that must be sure for a record to be coded without a person."""
    deciding = summary.settings.get("model.options.tasks")
    return deciding if isinstance(deciding, list | tuple) else tasks


def spec_of_run(summary: "Summary", path: str) -> "ModelSpec":
    """The run's system and its options, with the checkpoint at a path."""
    from engine.models.base import ModelSpec

    options: dict[str, Any] = {}
    for name, value in summary.settings.items():
        if name.startswith(_OPTIONS):
            # `_run.json` has one entry for each key of an option that is a mapping.
            option, nested, key = name.removeprefix(_OPTIONS).partition(".")
            options[option] = {**options.get(option, {}), key: value} if nested else value
    return ModelSpec(str(summary.settings["model.system"]), path, options)


def system_of_run(summary: "Summary", path: str) -> "System":
    """The run's system, with the checkpoint at a path.

    Raises:
        ConfigError: there is none, or it is not the model of the run.
    """
    from engine.models.base import load

    try:
        system = load(spec_of_run(summary, path))
    except ConfigError as error:
        # Another model may not know the run's options.
        raise ConfigError(
            f"model.path: {path} is not the model of this run ({error}); give the checkpoint that it used"
        ) from None
    check_model(summary, path, system.digest)
    return system


def system_at_hand(summary: "Summary", path: str | None) -> "System | None":
    """The run's system, with the checkpoint at a path, or else with the shipped one; None if the run used another one.

    Raises:
        ConfigError: the checkpoint at the path is not the one of the run.
    """
    try:
        return system_of_run(summary, path or "shipped")
    except ConfigError:
        if path is not None:
            raise
        return None


def check_model(summary: "Summary", path: str, digest: str) -> None:
    """ConfigError if a digest is not that of the run's model."""
    if digest != summary.settings["model.digest"]:
        raise ConfigError(
            f"model.path: {path} is not the model of this run (its digest differs); give the checkpoint that it used"
        )
