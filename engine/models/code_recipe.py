"""How a system of codes is trained, settled and measured: one phase on a labelled table, thresholds from valid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluation import classes
from engine.models import checkpoint
from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.code_calibrating import Effect, decided, fit, outcome, scored
from engine.models.code_corpus import LabelledTexts, load_texts
from engine.models.code_system import CodeSystem, calibration_file
from engine.models.code_task import Task, TaskCalibration
from engine.sources.labelled.splits import TEST, VALID

if TYPE_CHECKING:
    from torch import Tensor

TARGET = 0.98


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
        settled = {}
        for task, codes, logits in _scored(spec, corpus, VALID, say):
            settled[task.name] = fit(task, codes, logits, TARGET) if any(codes) else TaskCalibration()
        checkpoint.revise(Path(spec.path), calibration_file(settled), "not measured yet\n")
        return settled

    def measure(self, spec: ModelSpec, corpus: LabelledTexts, settled: Mapping[str, TaskCalibration], say: Say) -> dict[str, Any]:
        tasks = {}
        for task, codes, logits in _scored(spec, corpus, TEST, say):
            fitted = settled[task.name]
            found = outcome(task, codes, logits, fitted)
            sure = Effect.of(decided(task, codes, logits, fitted)) if len(found.rows) else None
            tasks[task.name] = {
                "n": len(found.rows),
                "accuracy": float(found.right.mean()) if sure else None,
                "macro_f1": classes.macro_f1(found.gold, found.predicted) if sure else None,
                "sure": sure.kept if sure else 0,
                "sure_accuracy": sure.right / sure.kept if sure and sure.kept else None,
                "temperature": fitted.temperature,
                "threshold": fitted.threshold,
            }
        return {"tasks": tasks}

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        lines = "\n".join(f"* {line}" for line in self.report(figures))
        return (
            f"# {self.system.package}\n\n    {command}\n\nMeasured on test, thresholds for {TARGET:.0%} from valid:\n\n{lines}\n"
        )

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        return [
            f"{task}: {found['n']} test texts, accuracy {found['accuracy']:.3f}, macro-F1 {found['macro_f1']:.3f}, "
            f"{found['sure']} sure"
            for task, found in figures["tasks"].items()
            if found["n"]
        ]

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
        unsure = [task for task, found in figures["tasks"].items() if found["threshold"] > 1]
        return [f"{task}: valid does not show {TARGET:.0%} for any threshold; every text will go to review" for task in unsure]


def _scored(
    spec: ModelSpec, corpus: LabelledTexts, split: str, say: Say
) -> Iterator[tuple[Task, Sequence[str | None], np.ndarray]]:
    """Each task with the right codes [n] of a split's texts and the product's logits [n, labels]."""
    system = load(spec)
    table, logits = scored(system, corpus.part(split), say, f" {split} texts")
    for task in system.config.tasks:
        yield task, table[task.name].to_pylist(), logits[task.name]
