"""The findings of a run as targets of explanation."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models.base import ModelSpec, load
from engine.models.explained import Group
from engine.models.findings.system import FindingSystem, shown
from engine.models.image_system import flat_images
from engine.models.options import without_evidence

if TYPE_CHECKING:
    from engine.explain.settings import Settings
    from engine.models.findings.explainable import FindingExplainable


class ExplainedFindings:
    """See `engine.models.explained.Explained`. Without names the findings of a study are explained that its evidence is given
    for (`shown`), otherwise the named ones."""

    columns = ("labels",)
    own_methods: frozenset[str] = frozenset()
    erasures = ("mask",)
    perturbs = ("mask",)
    kind = "a system of findings"

    def __init__(self, system: FindingSystem, names: Sequence[str], targets: Mapping[str, str]) -> None:
        self.system, self.chosen = system, tuple(names)
        for name in names:
            if name not in system.names:
                raise ConfigError(f"explain.tasks: the model has no finding '{name}'; it has {', '.join(system.names)}")
        if targets:
            raise ConfigError("explain.targets: findings have no codes that could replace an answer; leave it out")
        self.names = self.chosen or system.names

    def asked(self, answer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        if answer is None:
            return [{"name": self.names[0], "pred": 0}]
        wanted = self.chosen or shown(answer["labels"])
        return [{"name": label["name"], "pred": label["pred"] or 0} for label in answer["labels"] if label["name"] in wanted]

    def sizes(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        counts = np.array(flat_images(prepared)[1], np.int64)
        rows, columns = self.system.grid
        return counts * rows * columns, counts

    def groups(self, prepared: pa.Table, settings: "Settings") -> list[Group]:
        import torch

        asked = [(row, each) for row, of_row in enumerate(prepared["asked"].to_pylist()) for each in of_row]
        if not asked:
            return []
        targets = torch.tensor([[self.system.names.index(each["name"]), each["pred"]] for _, each in asked])
        rows = [row for row, _ in asked]
        batch = self.model.take(self.model.studies(prepared), rows)
        with torch.no_grad():
            own = self._holds(batch, targets)
        return [Group(self.model, batch, targets, rows, own)]

    def _holds(self, batch: Any, targets: Any) -> list[bool]:
        """Whether each target is still the model's answer, a study at a time."""
        places = range(len(batch))
        return [bool(self.model.holds(self.model.take(batch, [place]), targets[[place]])) for place in places]

    @cached_property
    def model(self) -> "FindingExplainable":
        from engine.models.findings.explainable import FindingExplainable

        return FindingExplainable(self.system)


def explained(spec: ModelSpec, names: Sequence[str], targets: Mapping[str, str]) -> ExplainedFindings:
    """`explained.load` of a package with a system of findings."""
    return ExplainedFindings(load(without_evidence(spec)), names, targets)
