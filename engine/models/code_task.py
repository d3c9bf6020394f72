"""The tasks of a model of codes, and their calibrations, which turn logits into decisions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from engine.errors import ConfigError


@dataclass(frozen=True)
class Task:
    """One question that the model answers about a text.

    `labels` are the codes in the order of the head's outputs; `support` counts the real (not synthetic) training texts of each.
    With `multi_label`, each label is its own yes-or-no question.
    """

    name: str
    labels: tuple[str, ...]
    support: tuple[int, ...]
    multi_label: bool = False


@dataclass(frozen=True)
class TaskConfig:
    """The common config of all models of codes; subclasses add `special`, see `engine.models.token_system`."""

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("model.tasks: name at least one task")
        for task in self.tasks:
            if not task.name.isidentifier():
                raise ConfigError(f"model.tasks: '{task.name}' must be a plain word, since it becomes part of column names")
            if len(task.labels) != len(task.support):
                raise ConfigError(f"checkpoint: task {task.name} has {len(task.labels)} labels but {len(task.support)} supports")

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The labels of each task."""
        return {task.name: task.labels for task in self.tasks}

    def task(self, name: str) -> Task:
        """The task of that name; ConfigError if the model lacks it."""
        tasks = {task.name: task for task in self.tasks}
        if name not in tasks:
            raise ConfigError(f"the model has no task '{name}'; it has {', '.join(tasks)}")
        return tasks[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        tasks = tuple(Task(t["name"], tuple(t["labels"]), tuple(t["support"]), t["multi_label"]) for t in values["tasks"])
        return cls(**{**values, "tasks": tasks, "special": tuple(values["special"])})


@dataclass(frozen=True)
class TaskCalibration:
    """How a task's logits become a decision; a `threshold` above 1 means that nothing is certain enough.

    `centres` are the mean logits of the calibration reports, one for each predicted code; a report whose logits are farther than
    `farthest` from all of them is unlike these reports. `isotonic` holds the knots (x, y) of a rising curve, linear between
    knots, that maps the highest probability at this temperature to the observed share right. `class_thresholds` override
    `threshold` for their codes.
    """

    temperature: float = 1.0
    threshold: float = 1.01
    figures: Mapping[str, Any] | None = None
    isotonic: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    class_thresholds: Mapping[str, float] | None = None
    centres: tuple[tuple[float, ...], ...] | None = None
    farthest: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for calibration.json."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TaskCalibration":
        """The inverse of `to_json`."""
        rows = {name: values[name] and tuple(map(tuple, values[name])) for name in ("isotonic", "centres")}
        return cls(**{**values, **rows})
