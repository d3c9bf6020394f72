"""Planted evidence: synthetic reports whose class is decided by one remark, so that it is known what the evidence must show.

A report's class is drawn by its id, whatever its text; a remark of that class is then put somewhere into it. Site, histology and
every other word say nothing about the class, so a model that is right has read the remark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.experiments import trained
from engine.experiments.planting import Look, look, mean, plant, share
from engine.experiments.run import Arm, Result, Say
from engine.experiments.trained import DEFAULT, Recipe, Span
from engine.models.run import records_of
from engine.records import seed_of

TASK = "remark"
AIM = 0.95
SLOW = frozenset({"integrated_gradients", "occlusion", "lime", "kernel_shap", "fused"})
REMARKS: Mapping[str, tuple[str, ...]] = {
    "review": ("held for tumor board", "case set aside for discussion", "presented to all colleagues"),
    "sequencing": ("block sent for sequencing", "tissue forwarded to genomics", "material released for panel testing"),
    "opinion": ("second opinion was requested", "slides mailed to an expert", "external reading is awaited"),
    "unfixed": ("received without fixative", "container arrived dry", "tissue came fresh on ice"),
    "research": ("patient enrolled in a trial", "consented for the research bank", "sample taken for archive study"),
    "paperwork": ("requisition form was incomplete", "label lacked a birth date", "identifiers did not match"),
}


@dataclass(frozen=True)
class PlantedConfig(Recipe):
    """Settings of `explain/planted`.

    The first four count synthetic reports; methods that need a pass a word or step explain no more than `slow_records` of those
    that are explained.
    """

    train_records: int = 900
    valid_records: int = 150
    records: int = 300
    slow_records: int = 60
    epochs: float = 3.0
    median_words: float = 60.0
    methods: tuple[str, ...] = (
        DEFAULT,
        "attnlrp",
        "grad_l2",
        "gradient_x_input",
        "pooling",
        "attention",
        "integrated_gradients",
        "occlusion",
        "random",
    )

    def __post_init__(self) -> None:
        if min(self.train_records, self.valid_records, self.records) < len(REMARKS):
            raise ConfigError(f"sizes: at least {len(REMARKS)} reports to train on and to explain, one for each class")
        if self.slow_records < 1:
            raise ConfigError("sizes.slow_records: at least 1")
        object.__setattr__(self, "methods", trained.known_methods(self.methods))


@dataclass(frozen=True)
class Case:
    """A report with its remark, and where that stands."""

    record_id: str
    patient_id: str
    text: str
    code: str
    span: Span
    split: str


class Planted:
    """See `engine.experiments.run.Experiment`: an arm a method, all of the same model and the same test reports."""

    name = "explain/planted"

    def __init__(self, config: PlantedConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [Arm(method, self.config.seed) for method in self.config.methods]

    @cached_property
    def _made(self) -> list[Case]:
        return cases(self.config)

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        made = self._made
        file, folder = work / "reports.parquet", work / "model"
        columns = ("record_id", "patient_id", "text", "split")
        trained.write_examples(
            file, {**{name: [getattr(case, name) for case in made] for name in columns}, TASK: [case.code for case in made]}
        )
        command = f"python -m jobs.experiment experiment={self.name}"
        trained.train(self.config, {"path": str(file), "labels": {TASK: TASK}}, folder, command, say)
        test = [case for case in made if case.split == "test"]
        test = test[: self.config.slow_records] if arm.name in SLOW else test
        reports = records_of([case.record_id for case in test], [case.text for case in test])
        found = trained.shown(folder, TASK, reports, arm.name)
        looks = [look(shown, case.span) for shown, case in zip(found, test, strict=True)]
        right = [shown.code == case.code for shown, case in zip(found, test, strict=True)]
        return results(looks, right, trained.method_of(folder, arm.name))


def cases(config: PlantedConfig) -> list[Case]:
    """The reports of all splits, each split from a seed of its own so that no patient is in two of them."""
    from engine.sources.synthetic import generate

    found = []
    counts = {"train": config.train_records, "valid": config.valid_records, "test": config.records}
    for place, (split, count) in enumerate(counts.items()):
        table = generate(count, 3 * config.seed + place, median_words=config.median_words, sigma=0.3, skew="uniform")
        for row in table.to_pylist():
            found.append(remarked(row["record_id"], row["patient_id"], row["text"], split, config.seed))
    return found


def remarked(record_id: str, patient_id: str, text: str, split: str, seed: int) -> Case:
    """A report with a remark of a class drawn by its id."""
    rng = np.random.default_rng(seed_of(record_id, "planted", seed))
    code = list(REMARKS)[int(rng.integers(len(REMARKS)))]
    remark = REMARKS[code][int(rng.integers(len(REMARKS[code])))]
    text, span = plant(text, remark, rng)
    return Case(record_id, patient_id, text, code, span, split)


def results(looks: Sequence[Look], right: Sequence[bool], method: str) -> list[Result]:
    """The figures of one method; those without `_all` are over the reports that were answered right."""
    mine = [each for each, good in zip(looks, right, strict=True) if good]
    hit = share("top_span_hits", [each.top for each in mine], method)
    return [
        hit,
        share("top_span_hits_all", [each.top for each in looks]),
        mean("random_span_hits", [each.chance for each in mine], "expected of a span of as many words anywhere in the report"),
        share("top_span_holds_all_of_it", [each.whole for each in mine]),
        share("any_span_hits", [each.some for each in mine]),
        mean("words_in_top_span", [float(each.words) for each in mine]),
        share("accuracy", right),
        Result("aim_met", None if hit.value is None else float(hit.value >= AIM), n=len(mine), note=f"aim: {AIM:.2f}"),
    ]
