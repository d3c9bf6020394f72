"""What a finished run tells of itself to the jobs that come after it: how it read its input, and which model it used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.models.site_classifier.checkpoint import Checkpoint
    from engine.pipeline import Summary

SITE_CLASSIFIER = "engine.models.site_classifier"


def reading_of_run(summary: "Summary") -> dict[str, Any]:
    """The settings of `input.` that the run had, without its path."""
    return {name.removeprefix("input."): value for name, value in summary.settings.items() if name.startswith("input.")}


def deciding_of_run(summary: "Summary", tasks: Sequence[str]) -> Sequence[str]:
    """Of the tasks of a table those that must be sure for a record to be coded without a person."""
    named = summary.settings.get("model.options.tasks")
    return named if isinstance(named, list | tuple) else tasks


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


class _Answers:
    """What the model of a run can answer, and what of it goes without a person: as `System.known` and `System.auto`."""

    def __init__(self, known: dict[str, list[str]], auto: dict[str, list[str]]) -> None:
        self.known, self.auto = (lambda: known), (lambda: auto)


def system_of_run(summary: "Summary", path: str | None) -> "_Answers | None":
    """The run's model; None where its checkpoint is not at hand.

    Raises:
        ConfigError: the checkpoint that was named is another one.
    """
    try:
        if summary.settings["model.system"] == SITE_CLASSIFIER:
            return _of_codes(checkpoint_of(path or "shipped", summary), summary)
        return _of_entities(path or "shipped", summary)
    except ConfigError:
        # The run may have used a model that is elsewhere, with a head that the one that comes along has not.
        if path is not None:
            raise
        return None


def _of_codes(model: "Checkpoint", summary: "Summary") -> _Answers:
    from engine.models.site_classifier.checkpoint import TaskCalibration
    from engine.models.site_classifier.decide import DecisionConfig, auto_codes

    options = {name.removeprefix("model.options."): value for name, value in summary.settings.items()}
    thresholds = {name.removeprefix("thresholds."): options[name] for name in options if name.startswith("thresholds.")}
    decision = DecisionConfig(min_support=options.get("min_support", DecisionConfig.min_support), thresholds=thresholds)
    auto = {
        task.name: auto_codes(task, model.calibration.get(task.name, TaskCalibration()), decision) for task in model.config.tasks
    }
    return _Answers({task.name: list(task.labels) for task in model.config.tasks}, auto)


def _of_entities(path: str, summary: "Summary") -> _Answers:
    from engine.models.base import ModelSpec, load

    prefix = "model.options."
    options: dict[str, Any] = {}
    for name, value in summary.settings.items():
        if name.startswith(prefix):
            first, _, rest = name.removeprefix(prefix).partition(".")
            if rest:
                options.setdefault(first, {})[rest] = value
            else:
                options[first] = value
    system = load(ModelSpec(str(summary.settings["model.system"]), path, options))
    if system.digest != summary.settings["model.digest"]:
        raise ConfigError(
            f"model.path: {path} is not the model of this run (its digest differs); give the checkpoint that it used"
        )
    return _Answers({"entities": [system.names[at] for at in system.types]}, {})
