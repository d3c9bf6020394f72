"""How a system of codes is trained, settled and measured: one phase on a labelled table, thresholds from valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models import checkpoint
from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.code_corpus import LabelledTexts, load_texts
from engine.models.code_system import FILES, CodeSystem
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

    def settle(self, spec: ModelSpec, corpus: LabelledTexts, say: Say) -> Mapping[str, Any]:
        from engine.models.code_settled import Promise, scored

        say("settling on valid")
        found = scored(load(spec), corpus.part(VALID), corpus.tasks, say)
        settled = {task: each.fitted(Promise(TARGET)) for task, each in found.items()}
        checkpoint.revise(Path(spec.path), {FILES[0]: settled}, "not measured yet\n")
        return settled

    def measure(self, spec: ModelSpec, corpus: LabelledTexts, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        from engine.evaluation.classes import macro_f1
        from engine.models.code_settled import scored

        say("measuring on test")
        tasks = {}
        for task, each in scored(load(spec), corpus.part(TEST), corpus.tasks, say).items():
            sure, right, _ = each.decided(settled[task])
            tasks[task] = {
                "n": len(right),
                "accuracy": float(right.mean()) if len(right) else None,
                "macro_f1": macro_f1(each.targets, each.logits.argmax(-1)) if len(right) else None,
                "sure": int(sure.sum()),
                "sure_accuracy": float(right[sure].mean()) if sure.any() else None,
                **settled[task],
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
