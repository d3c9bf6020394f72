"""Explaining the codes of a run: a target for each task, over whole texts."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models.base import ModelSpec, load
from engine.models.code_system import CodeSystem
from engine.models.columns import list_values
from engine.models.explained import Group, label_numbers

if TYPE_CHECKING:
    from engine.explain.settings import Settings
    from engine.models.code_explainable import CodeExplainable


class ExplainedCodes:
    """See `engine.models.explained.Explained`: for any system whose answers are codes by task, each from a fixed list of labels.

    `models` are explained by the methods that work for every model.
    """

    erasures = ("mask", "delete")
    own_methods: frozenset[str] = frozenset()
    perturbs = ("mask",)

    def __init__(self, system: CodeSystem, names: Sequence[str], targets: Mapping[str, str], kind: str = "this system") -> None:
        self.system, self.targets, self.kind = system, dict(targets), kind
        labels = system.config.labels
        unknown = [name for name in names if name not in labels]
        if unknown:
            raise ConfigError(f"explain.tasks: the model has no task '{unknown[0]}'; it has {', '.join(labels)}")
        self.names = tuple(names) or tuple(labels)
        self.columns = tuple(f"{name}_code" for name in self.names)
        for name, code in targets.items():
            if name not in self.names:
                raise ConfigError(f"explain.targets: the task '{name}' is not explained; explained are: {', '.join(self.names)}")
            label_numbers(name, labels[name], code, system.config.task(name).multi_label)

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        codes = {name: answer and answer[column] for name, column in zip(self.names, self.columns, strict=True)}
        return [{"name": code, "start": None, "end": None} for code in {**codes, **self.targets}.values()]

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        tokens = [len(ids) for ids in list_values(prepared["input_ids"])]
        return np.array(tokens, np.int64), np.array(self.system.window_counts(prepared), np.int64)

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        from engine.models.code_explainable import reports

        batch = reports(prepared)
        codes = [[target["name"] for target in row] for row in prepared["asked"].to_pylist()]
        groups = []
        for number, model in enumerate(self.models):
            predicted = model.predicted(batch)
            answers = [target.name for target in model.named(batch, predicted)]
            targets = model.targets(
                [answer if row[number] is None else row[number] for row, answer in zip(codes, answers, strict=True)]
            )
            is_predicted = (targets == predicted).reshape(len(batch), -1).all(1).tolist()
            groups.append(Group(model, batch, targets, range(len(batch)), is_predicted, model.name in self.targets))
        return groups

    @cached_property
    def models(self) -> "Sequence[CodeExplainable]":
        """One for each explained task."""
        from engine.models.code_explainable import CodeExplainable

        return [CodeExplainable(self.system, name) for name in self.names]


def explained(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> ExplainedCodes:
    """`explained.load` of a package with a system of codes."""
    return ExplainedCodes(load(spec), names, targets)
