"""A fit and a measure without a model: an arm's answers are right as often as its settings say."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.records import seed_of
from engine.studies.compare import GIVEN, LABELS
from engine.studies.results import Measured, Row
from engine.studies.run import Task

TEXTS = 40


@dataclass(frozen=True)
class Guess:
    folder: Path
    identity: str
    share: float


def fit(task: Task) -> Guess:
    folder = task.models / task.arm.key
    folder.mkdir(parents=True)
    (folder / "fitted").touch()
    return Guess(folder, str(task.identity), task.settings["share"])


def measure(model: Guess, task: Task) -> Measured:
    draws = np.random.default_rng(seed_of("toy", task.arm.seed)).random(TEXTS)
    right = draws < model.share
    labels = [[number % 2 == 0, number % 2 == 1] for number in range(TEXTS)]
    given = [label if is_right else label[::-1] for label, is_right in zip(labels, right, strict=True)]
    names = [f"text {number}" for number in range(TEXTS)]
    answers = pa.table({"record_id": names, "group": names, LABELS: labels, GIVEN: given, "score": draws})
    return Measured([Row("accuracy", float(right.mean()), n=TEXTS), Row("accuracy", 0.5, slice="type=even", n=20)], answers)
