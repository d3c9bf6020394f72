"""What a finished run tells of itself to the jobs that come after it: how it read its input, and which model it used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.models.base import ModelSpec, System
    from engine.pipeline import Summary

_OPTIONS = "model.options."


def reading_of_run(summary: "Summary") -> dict[str, Any]:
    """The settings of `input.` that the run had, without its path."""
    return {name.removeprefix("input."): value for name, value in summary.settings.items() if name.startswith("input.")}


def deciding_of_run(summary: "Summary", tasks: Sequence[str]) -> Sequence[str]:
    """Of the tasks of a table those that must be sure for a record to be coded without a person."""
    named = summary.settings.get("model.options.tasks")
    return named if isinstance(named, list | tuple) else tasks


def spec_of_run(summary: "Summary", path: str) -> "ModelSpec":
    """The run's system and its options, with the checkpoint at a path."""
    from engine.models.base import ModelSpec

    options: dict[str, Any] = {}
    for name, value in summary.settings.items():
        if name.startswith(_OPTIONS):
            # An option that is a mapping stands in `_run.json` key by key.
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
        # What the run set may be nothing to another model.
        raise ConfigError(
            f"model.path: {path} is not the model of this run ({error}); give the checkpoint that it used"
        ) from None
    check_model(summary, path, system.digest)
    return system


def system_at_hand(summary: "Summary", path: str | None) -> "System | None":
    """The run's system, with the checkpoint at a path, or else with the one that comes along; None where that is another one.

    Raises:
        ConfigError: a checkpoint was named, and is not that of the run.
    """
    try:
        return system_of_run(summary, path or "shipped")
    except ConfigError:
        # The run may have used a model that is elsewhere.
        if path is not None:
            raise
        return None


def check_model(summary: "Summary", path: str, digest: str) -> None:
    """Raises ConfigError where a digest is not that of the run's model."""
    if digest != summary.settings["model.digest"]:
        raise ConfigError(
            f"model.path: {path} is not the model of this run (its digest differs); give the checkpoint that it used"
        )
