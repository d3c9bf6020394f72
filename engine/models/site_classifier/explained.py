"""The codes of a run as they are explained: a target for each task, over whole reports."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.explain.settings import OWN_METHODS
from engine.models.base import ModelSpec
from engine.models.base import load as load_system
from engine.models.columns import list_values
from engine.models.explained import Group
from engine.models.site_classifier.coder import SiteCoder

if TYPE_CHECKING:
    from engine.explain.settings import Settings
    from engine.models.site_classifier.attributable import SiteExplainable
    from engine.models.site_classifier.remembered import Remembered

# Options of a run that say what the model is and what it reads.
_READING = ("max_tokens", "pair", "head", "precision", "deterministic")
# Batches of tokens whose states are kept: the copies of a report of some thousand tokens come back to the same windows in these.
_REMEMBERED = 8


class ExplainedCodes:
    """See `engine.models.explained.Explained`."""

    erasures = ("mask", "delete")

    def __init__(self, coder: SiteCoder, names: Sequence[str], targets: Mapping[str, str]) -> None:
        self.system = coder
        config = coder.config
        self.tasks = [config.task(name) for name in names] or list(config.tasks)
        self.names = tuple(task.name for task in self.tasks)
        self.columns = tuple(f"{name}_code" for name in self.names)
        self.targets = dict(targets)
        self.own_methods = OWN_METHODS & set(config.evidence_methods)
        self.kind = f"the head '{config.head}'"
        for name, code in targets.items():
            if name not in self.names:
                raise ConfigError(f"explain.targets: the task '{name}' is not explained; those that are: {', '.join(self.names)}")
            config.task(name).numbers(code)

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        codes = {name: answer and answer[column] for name, column in zip(self.names, self.columns, strict=True)}
        return [{"name": code, "start": None, "end": None} for code in {**codes, **self.targets}.values()]

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        return np.array([len(ids) for ids in list_values(prepared["input_ids"])], np.int64), prepared["n_windows"].to_numpy()

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        from engine.models.site_classifier.attributable import reports

        self._remembered.forget()
        batch = reports(prepared)
        codes = [[each["name"] for each in row] for row in prepared["asked"].to_pylist()]
        groups = []
        for number, model in enumerate(self.models):
            predicted = model.predicted(batch)
            answers = [target.name for target in model.named(batch, predicted)]
            wanted = [answer if row[number] is None else row[number] for row, answer in zip(codes, answers, strict=True)]
            targets = model.targets(wanted)
            same = (targets == predicted).reshape(len(batch), -1).all(1).tolist()
            groups.append(Group(model, batch, targets, range(len(batch)), same, model.task.name in self.targets))
        return groups

    @cached_property
    def models(self) -> "list[SiteExplainable]":
        from engine.models.site_classifier.attributable import SiteExplainable

        return [SiteExplainable(self.system, name, self._remembered) for name in self.names]

    @cached_property
    def _remembered(self) -> "Remembered":
        from engine.models.site_classifier.remembered import Remembered

        return Remembered(_REMEMBERED * self.system.budget)


def load(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> ExplainedCodes:
    """The coder of a run as it explains."""
    options = {name: spec.options[name] for name in _READING if name in spec.options}
    return ExplainedCodes(load_system(replace(spec, options={**options, "method": "none", "tasks": ()})), names, targets)
