"""What a finished run tells of itself to the jobs that come after it: how it read its input, and which model it used."""

from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.models.site_classifier.checkpoint import Checkpoint
    from engine.pipeline import Summary

SITE_CLASSIFIER = "engine.models.site_classifier"


def reading_of_run(summary: "Summary") -> dict[str, Any]:
    """The settings of `input.` that the run had, without its path."""
    return {name.removeprefix("input."): value for name, value in summary.settings.items() if name.startswith("input.")}


def checkpoint_of(path: str, summary: "Summary") -> "Checkpoint":
    """The checkpoint at a path, with the run's head.

    Raises:
        ConfigError: there is none, or it is not the model of the run.
    """
    from engine.models.site_classifier.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path, summary.settings.get("model.options.head"))
    if checkpoint.digest != summary.settings["model.digest"]:
        raise ConfigError(
            f"model.path: {path} is not the model of this run (its digest differs); give the checkpoint that it used"
        )
    return checkpoint
