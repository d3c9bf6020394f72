"""Training, settling and measuring a system of codes: one phase on a labelled table, thresholds from valid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.models import checkpoint
from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.code_calibrating import fit, score_reports
from engine.models.code_corpus import LabelledTexts, load_texts
from engine.models.code_figures import TARGET, cautions, chapters, measured, report
from engine.models.code_system import CodeSystem, calibration_file
from engine.models.code_task import Task, TaskCalibration
from engine.sources.labelled.splits import TEST, VALID

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CodeRecipe:
    """See `engine.models.base.Recipe`. `Settings` has the sections `data`, a `CodeData`, and `model`, a `CodeModel`."""

    system: type[CodeSystem]
    Settings: type

    def watched(self, settings: Mapping[str, Any]) -> Sequence[str]:
        return ["macro_f1", *(f"accuracy_{task}" for task in settings["data"]["labels"])]

    def corpus(self, settings: Mapping[str, Any]) -> LabelledTexts:
        return load_texts(settings)

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        return [Phase("codes", "engine.models.code_learner:learner", {"network": self.system.network_at})]

    def part(self, settings: Mapping[str, Any]) -> str:
        return ""

    def write(self, folder: Path, corpus: LabelledTexts, tensors: "Mapping[str, Tensor]") -> ModelSpec:
        self.system.write(folder, corpus.config, tensors, "not settled yet\n")
        return ModelSpec(self.system.package, str(folder))

    def settle(self, spec: ModelSpec, corpus: LabelledTexts, say: Say) -> Mapping[str, TaskCalibration]:
        scores = _scored(spec, corpus, VALID, say)
        settled = {task.name: fit(task, table[task.name].to_pylist(), logits, TARGET) for task, table, logits in scores}
        checkpoint.revise(Path(spec.path), calibration_file(settled), "not measured yet\n")
        return settled

    def measure(self, spec: ModelSpec, corpus: LabelledTexts, settled: Mapping[str, TaskCalibration], say: Say) -> dict[str, Any]:
        scores = _scored(spec, corpus, TEST, say)
        return {"tasks": {task.name: measured(task, table, logits, settled[task.name]) for task, table, logits in scores}}

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        head = f"# {self.system.package}\n\n    {command}\n\nCalibrated on the valid split, measured on the test split."
        return "\n".join([head, *chapters(figures, load(spec).known())]) + "\n"

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        return report(figures)

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
        return cautions(figures)


def _scored(spec: ModelSpec, corpus: LabelledTexts, split: str, say: Say) -> Iterator[tuple[Task, pa.Table, np.ndarray]]:
    """Each task with the texts of a split and the product's logits [texts, labels]."""
    system = load(spec)
    table, logits = score_reports(system, corpus.part(split), say, f" {split} reports")
    for task in system.config.tasks:
        yield task, table, logits[task.name]
