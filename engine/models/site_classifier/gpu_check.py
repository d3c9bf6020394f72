"""What the check of a GPU asks of the site classifier alone, see `engine.benchmarks.gpu_check`."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.models.columns import list_values
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task
from engine.models.site_classifier.decide import adjusted, nearest, probabilities, threshold

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder

# Above it a code counts for the rules of wording, and for pairs of codes.
_MORE_SURE_THAN_NOT = 0.5


def unsure(system: "SiteCoder", prepared: pa.Table, tolerance: float) -> dict[int, list[str]]:
    """The columns of each row that would be others if a probability were, by less than `tolerance`; or if the distance in logits
    were, by that share, beyond which a text is unlike all others."""
    scores = system.scores(prepared)
    found: dict[int, list[str]] = {row: [] for row in scores["row"].to_pylist()}
    for task in system.config.tasks:
        for (row, columns), logits in zip(found.items(), list_values(scores[f"{task.name}_logits"]), strict=True):
            if min(_distances(system, task, logits)) < tolerance:
                found[row] = [*columns, f"{task.name}_code", f"{task.name}_decision", "decision"]
    return found


def _distances(system: "SiteCoder", task: Task, logits: np.ndarray) -> Iterator[float]:
    calibration = system.checkpoint.calibration.get(task.name, TaskCalibration())
    prob = probabilities(logits[None], calibration.temperature, task.multi_label)
    if task.multi_label:
        yield float(np.abs(prob - _MORE_SURE_THAN_NOT).min())
        return
    prob = adjusted(prob, calibration)[0]
    second, best = np.sort([0.0, *prob])[-2:]
    yield float(best - second)
    yield abs(float(best) - _MORE_SURE_THAN_NOT)
    yield abs(float(best) - threshold(task, task.labels[int(prob.argmax())], calibration, system.decision))
    if calibration.centres is not None:
        yield abs(float(nearest(logits[None], calibration.centres)[0]) / calibration.farthest - 1)


def extra(system: "SiteCoder", prepared: pa.Table) -> dict[str, bool]:
    """Whether each method of evidence gives some, and the same codes as without any, on this device."""
    from engine.models.site_classifier.coder import SiteCoder

    few = prepared.slice(0, 4)
    columns = [f"{task.name}_code" for task in system.config.tasks]
    codes = system.run(few).sort_by("row").select(columns)
    found = {}
    for method in system.config.evidence_methods:
        runtime = {"device": system.device, "batch_tokens": system.budget}
        rows = SiteCoder(system.checkpoint, replace(system.options, method=method), runtime).run(few).sort_by("row")
        told = all(row[f"{task.name}_evidence"] for row in rows.to_pylist() for task in system.config.tasks)
        found[f"evidence by {method}"] = told and rows.select(columns).equals(codes)
    return found
