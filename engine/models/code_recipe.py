"""How a system of codes is trained, settled and measured: one phase on a labelled table, thresholds from valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluation import calibration, classes
from engine.models import checkpoint
from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.code_corpus import LabelledTexts, load_texts
from engine.models.code_system import FILES, CodeSystem, probabilities
from engine.models.columns import matrix
from engine.sources.labelled.splits import TEST, VALID

if TYPE_CHECKING:
    from torch import Tensor

TARGET = 0.98
_TOGETHER = 1024


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
        say("settling on valid")
        scored, settled = _logits(spec, corpus, VALID), {}
        for task, (logits, targets) in scored.items():
            scale = calibration.temperature(logits, targets) if len(targets) else 1.0
            prob, right = _sure(logits, targets, scale)
            cut = calibration.fit_threshold(prob, right, TARGET).threshold if len(targets) else calibration.NOTHING
            settled[task] = {"temperature": scale, "threshold": cut}
        checkpoint.revise(Path(spec.path), {FILES[0]: settled}, "not measured yet\n")
        return settled

    def measure(self, spec: ModelSpec, corpus: LabelledTexts, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        say("measuring on test")
        tasks = {}
        for task, (logits, targets) in _logits(spec, corpus, TEST).items():
            prob, right = _sure(logits, targets, settled[task]["temperature"])
            kept = right[prob >= settled[task]["threshold"]]
            tasks[task] = {
                "n": len(right),
                "accuracy": float(right.mean()) if len(right) else None,
                "macro_f1": classes.macro_f1(targets, logits.argmax(-1)) if len(right) else None,
                "sure": len(kept),
                "sure_accuracy": float(kept.mean()) if len(kept) else None,
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


def _logits(spec: ModelSpec, corpus: LabelledTexts, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The product's logits [n, labels] and the right labels [n] by task, of the texts of a split that have one; -1 for a code
    that the model does not know."""
    system, records = load(spec), corpus.records(split)
    rows: dict[int, dict[str, np.ndarray]] = {}
    for at in range(0, len(records), _TOGETHER):
        prepared = system.prepare(records.slice(at, _TOGETHER))
        scores = system.scores(prepared.filter(prepared["failure"].is_null()))
        columns = {task: matrix(scores[f"{task}_logits"]) for task in system.known()}
        for place, row in enumerate(scores["row"].to_pylist()):
            rows[row] = {task: values[place] for task, values in columns.items()}
    found = {}
    for task, labels in system.known().items():
        has = corpus.part(split)[task].is_valid().to_pylist()
        members = [row for row in sorted(rows) if has[row]]
        logits = np.array([rows[row][task] for row in members], np.float32).reshape(-1, len(labels))
        found[task] = logits, corpus.numbers(split, task)[members]
    return found


def _sure(logits: np.ndarray, targets: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each answer, and whether it is right."""
    prob = probabilities(logits, temperature).max(-1) if len(logits) else np.zeros(0)
    return prob, logits.argmax(-1) == targets
