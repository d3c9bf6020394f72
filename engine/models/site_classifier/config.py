"""What a site classifier is made of: everything that its weights and its labels depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import ConfigError

EVIDENCE_METHODS = ("attention", "pooling", "gradient_x_input", "grad_l2", "attention_constant", "attnlrp")
HEADS = ("pooling", "cls", "target", "dpla")
BRANCHES = ("word", "phrase")
CALIBRATIONS = ("temperature", "isotonic", "per_class")


@dataclass(frozen=True)
class Task:
    """One question that the model answers about a report.

    `labels` are the codes in the order of the head's outputs; `support` counts the real (not synthetic) training reports of
    each. With `multi_label`, each label is its own yes-or-no question.
    """

    name: str
    labels: tuple[str, ...]
    support: tuple[int, ...]
    multi_label: bool = False

    def numbers(self, code: str) -> list[int]:
        """The labels that a code stands for; codes of a multi-label task are joined by `;`.

        Raises:
            ConfigError: the model does not know a code.
        """
        parts = [part for part in code.split(";") if part] if self.multi_label else [code]
        unknown = [part for part in parts if part not in self.labels]
        if unknown:
            raise ConfigError(f"the task {self.name} has no code '{unknown[0]}'; a target must be one the model knows")
        return [self.labels.index(part) for part in parts]


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of a checkpoint.

    `window` counts tokens of text a window, special tokens apart. `special` are the ids of [CLS], [SEP], [PAD] and [MASK].
    `head` names the pool over a report's tokens, see `heads.py`: `pool_heads` and `pool_width` are queries and keys of `pooling`,
    `phrase_samples`, `phrase_reach` (tokens) and `branches` those of `dpla`.
    """

    tasks: tuple[Task, ...]
    encoder: str = "pkg:minilm"
    encoder_digest: str = ""
    rank: int = 32
    window: int = 126
    pool_heads: int = 4
    pool_width: int = 128
    paired: bool = False
    special: tuple[int, int, int, int] = (101, 102, 0, 103)
    head: str = "pooling"
    phrase_samples: int = 3
    phrase_reach: float = 4.0
    branches: tuple[str, ...] = BRANCHES

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(self.branches))
        if self.head not in HEADS:
            raise ConfigError(f"model.head: '{self.head}' is none of {', '.join(HEADS)}")
        if not self.branches or not set(self.branches) <= set(BRANCHES):
            raise ConfigError(f"model.branches: name one or both of {', '.join(BRANCHES)}")
        if not self.tasks:
            raise ConfigError("model.tasks: name at least one task")
        for task in self.tasks:
            if not task.name.isidentifier():
                raise ConfigError(f"model.tasks: '{task.name}' must be a plain word, it becomes part of column names")
            if len(task.labels) != len(task.support):
                raise ConfigError(f"checkpoint: task {task.name} has {len(task.labels)} labels but {len(task.support)} supports")

    @property
    def evidence_methods(self) -> tuple[str, ...]:
        """The methods that this head has: the first token's state cannot be divided among the tokens."""
        return tuple(method for method in EVIDENCE_METHODS if method != "pooling" or self.head != "cls")

    def task(self, name: str) -> Task:
        """The task of that name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ConfigError(f"the model has no task '{name}'; it has {', '.join(t.name for t in self.tasks)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClassifierConfig":
        """The inverse of `to_json`."""
        tasks = tuple(Task(t["name"], tuple(t["labels"]), tuple(t["support"]), t["multi_label"]) for t in values["tasks"])
        return cls(**{**values, "tasks": tasks, "special": tuple(values["special"])})
