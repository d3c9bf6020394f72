"""What stands in front of the text: tagger, plain MRC (the type's name), hard, soft and hybrid prompts, side by side.

An arm is a corpus, a mode and a seed. The arms that end a corpus hold the means over seeds, and each mode against plain MRC: a
paired t-test over seeds (Holm's correction over the modes) and a paired bootstrap over texts, of the mean over the seeds' models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from engine.evaluation.spans import ERRORS
from engine.experiments.mrc import (
    MAIN,
    MrcRecipe,
    cost_of,
    fitted,
    gold_of,
    keep_found,
    kept_found,
    known_modes,
    measured,
    over,
    results_of,
    settings_of,
)
from engine.experiments.run import Arm, Result, Say
from engine.experiments.significance import holm, mean_difference, paired
from engine.models.prompt_mrc.config import HARD, HYBRID, NAME, SOFT, TAGGER

PLAIN = NAME
MODES = (TAGGER, PLAIN, HARD, SOFT, HYBRID)


@dataclass(frozen=True)
class PromptAblationConfig(MrcRecipe):
    """Settings of `prompt_mrc/prompt_ablation`; `modes` are compared with plain MRC where that is among them."""

    many_seeds: ClassVar[bool] = True
    corpora: tuple[str, ...] = ("NCBI-disease", "BC5CDR")
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    modes: tuple[str, ...] = (TAGGER, PLAIN, HYBRID)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "modes", known_modes(self.modes))


class PromptAblation:
    """See `engine.experiments.run.Experiment`."""

    name = "prompt_mrc/prompt_ablation"
    metrics: Sequence[str] = (*MAIN, "index_start", "index_end", *(f"error_{kind}" for kind in ERRORS))
    by_type: Sequence[str] = ("f1", "overlap_f1", "start_accuracy", "end_accuracy")

    def __init__(self, config: PromptAblationConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        found = []
        for corpus in self.config.corpora:
            found += [Arm(f"{corpus}-{mode}-seed{seed}", seed) for seed in self.config.seeds for mode in self.config.modes]
            found += [Arm(f"{corpus}-{mode}-mean") for mode in self.config.modes]
            found += [Arm(f"{corpus}-{mode}-against-{PLAIN}") for mode in self._rivals()]
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        corpus, mode, last = self._parts(arm.name)
        if last == "mean":
            return self._mean(corpus, mode, work)
        if last == "against":
            return self._against(corpus, mode, work)
        folder = work / arm.name
        model = fitted(self.config, settings_of(self.config, corpus, arm.seed, mode=mode), folder, say)
        found = measured(model, rounds=self.config.rounds)
        keep_found(folder, found)
        return [*results_of(found, self.metrics, self.by_type), *cost_of(model)]

    def _rivals(self) -> list[str]:
        return [mode for mode in self.config.modes if mode != PLAIN] if PLAIN in self.config.modes else []

    def _parts(self, name: str) -> tuple[str, str, str]:
        corpus = next(each for each in sorted(self.config.corpora, key=len, reverse=True) if name.startswith(f"{each}-"))
        mode, _, last = name.removeprefix(f"{corpus}-").partition("-")
        return corpus, mode, last.partition("-")[0]

    def _values(self, corpus: str, mode: str, work: Path) -> dict[str, list[float]]:
        """The values of every metric, seed by seed."""
        found: dict[str, list[float]] = {}
        for seed in self.config.seeds:
            for row in pq.read_table(work.parent / "arms" / f"{corpus}-{mode}-seed{seed}.parquet").to_pylist():
                if row["value"] is not None:
                    found.setdefault(row["metric"], []).append(row["value"])
        return found

    def _mean(self, corpus: str, mode: str, work: Path) -> list[Result]:
        return over(self._values(corpus, mode, work))

    def _against(self, corpus: str, mode: str, work: Path) -> list[Result]:
        plain, told = self._values(corpus, PLAIN, work), {}
        for rival in self._rivals():
            theirs = self._values(corpus, rival, work)
            told[rival] = {metric: paired(theirs[metric], plain[metric]) for metric in ("f1", "overlap_f1")}
        found = []
        for metric in ("f1", "overlap_f1"):
            estimate, p = told[mode][metric]
            every = [told[rival][metric][1] for rival in self._rivals()]
            corrected = holm(every)[self._rivals().index(mode)]
            found.append(Result(f"{metric}_difference", estimate.value, estimate.low, estimate.high, len(self.config.seeds)))
            found += [Result(f"{metric}_p", p, n=len(self.config.seeds)), Result(f"{metric}_p_holm", corrected)]
        gold = gold_of(self.config, corpus)
        pairs = [
            tuple(kept_found(work / f"{corpus}-{each}-seed{seed}", gold) for each in (mode, PLAIN)) for seed in self.config.seeds
        ]
        for way, metric in (("", "f1"), ("overlap_", "overlap_f1")):
            estimate, p = mean_difference(gold, pairs, way, self.config.rounds)
            note = "paired bootstrap over texts, mean over the seeds' models"
            found.append(Result(f"{metric}_bootstrap", estimate.value, estimate.low, estimate.high, len(gold), note))
            found.append(Result(f"{metric}_bootstrap_p", p, n=len(gold)))
        return found


@dataclass(frozen=True)
class SpanAccuracyConfig(PromptAblationConfig):
    """Settings of `prompt_mrc/span_accuracy`."""

    many_seeds: ClassVar[bool] = False
    seeds: tuple[int, ...] = (7,)
    modes: tuple[str, ...] = MODES


class SpanAccuracy(PromptAblation):
    """Exact against partial, start against end, and what kind of errors, in every mode: an arm a corpus and mode, one seed."""

    name = "prompt_mrc/span_accuracy"

    def arms(self) -> Sequence[Arm]:
        return [arm for arm in super().arms() if not arm.name.endswith("-mean")]
