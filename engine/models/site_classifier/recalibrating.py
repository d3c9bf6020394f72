"""A task's calibration fitted anew on labelled reports, with what it does to reports it has not seen."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.models.revised import Refitted, refitted
from engine.models.site_classifier.calibrate import Settings
from engine.models.site_classifier.calibrating import decided, fit
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task


def recalibrate(
    task: Task, values: Sequence[Any], logits: NDArray, groups: Sequence[str], before: TaskCalibration, wanted: Settings
) -> Refitted | None:
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

    found = refitted(fitting, deciding, before, groups, wanted.folds)
    figures = {**found.fitted.figures, "method": wanted.method, "before": vars(found.before), "folds": found.folds}
    if found.after is not None:
        figures["cross_fitted"] = vars(found.after)
    return replace(found, fitted=replace(found.fitted, figures=figures))
