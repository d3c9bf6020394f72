"""A task's calibration fitted anew on labelled reports, with what it does to reports it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation import calibration
from engine.models.site_classifier.calibrating import TEMPERATURE, decided, fit
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task


@dataclass(frozen=True)
class Wanted:
    """`target` of the coded reports right, with `confidence`; `folds` parts are held out in turn to show the effect."""

    target: float = 0.98
    confidence: float = 0.95
    method: str = TEMPERATURE
    folds: int = 5
    min_support: int = 10


@dataclass(frozen=True)
class Effect:
    """What a calibration does to `n` labelled reports: `kept` of them coded without a person, `right` of those right.

    `error` is the expected calibration error over all of them.
    """

    n: int
    kept: int
    right: int
    error: float

    @classmethod
    def of(cls, decisions: Sequence[tuple[bool, bool, float]]) -> "Effect":
        """From what `calibrating.decided` tells of each report."""
        kept, right, prob = (np.array(each) for each in zip(*decisions, strict=True))
        return cls(
            len(decisions), int(kept.sum()), int((kept & right).sum()), calibration.expected_calibration_error(prob, right)
        )


@dataclass(frozen=True)
class Recalibrated:
    """The new calibration, fitted on all labelled reports, beside the old one's effect on them (`before`).

    `after` is the effect of calibrations fitted without the group of each report, in `folds` parts; None with one group alone.
    """

    fitted: TaskCalibration
    before: Effect
    after: Effect | None
    folds: int


def recalibrate(
    task: Task, values: Sequence[Any], logits: NDArray, groups: Sequence[str], before: TaskCalibration, wanted: Wanted
) -> Recalibrated | None:
    """Fits a task's calibration on the labelled reports; None where no report has a label.

    Args:
        values: a code, for a multi-label task a list of codes, or None. logits: [rows, labels]. groups: one key a row, such as
            the patient; reports of a group are held out together.
    """
    rows = np.flatnonzero([value is not None for value in values])
    if not rows.size:
        return None
    values, logits, groups = [values[row] for row in rows], logits[rows], [groups[row] for row in rows]

    def fitting(at: NDArray) -> TaskCalibration:
        mine = [values[row] for row in at]
        return fit(task, mine, logits[at], wanted.target, wanted.confidence, wanted.method, "own sample", before)

    def deciding(found: TaskCalibration, at: NDArray) -> list[tuple[bool, bool, float]]:
        return decided(task, [values[row] for row in at], logits[at], found, wanted.min_support)

    every, folds = np.arange(rows.size), min(wanted.folds, len(set(groups)))
    found, old = fitting(every), Effect.of(deciding(before, every))
    new = Effect.of(calibration.cross_fitted(fitting, deciding, groups, folds)) if folds > 1 else None
    figures = {**(found.figures or {}), "method": wanted.method, "before": vars(old), "folds": folds}
    if new is not None:
        figures["cross_fitted"] = vars(new)
    return Recalibrated(replace(found, figures=figures), old, new, folds)
