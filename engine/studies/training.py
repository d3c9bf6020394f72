"""What a training took and came to, as its curve and its settling tell it: nothing for a model that another arm trained."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.whole import USE, Fitted


def measure(model: Fitted, task: Task) -> Measured:
    """`trained_parameters`, `seconds_per_epoch`, and each number that settling found, such as `valid_f1`."""
    if USE in task.settings:
        return Measured([])
    rows = [Row("trained_parameters", model.trained)]
    if model.curve:
        rows.append(Row("seconds_per_epoch", seconds_per_epoch(model.curve)))
    return Measured([*rows, *(Row(name, value) for name, value in model.settled.items() if isinstance(value, float))])


def seconds_per_epoch(curve: Sequence[Mapping[str, Any]]) -> float:
    """Seconds an epoch, of the steps alone: what is done at the end of a row, such as validation, is not counted."""
    spent = epochs = 0.0
    for _, group in groupby(curve, key=lambda row: row.get("phase")):
        rows = list(group)
        steps = [0, *(row["step"] for row in rows)]
        spent += sum((step - before) / row["steps_per_second"] for before, step, row in zip(steps, steps[1:], rows, strict=False))
        epochs += rows[-1]["epoch"]
    return spent / epochs
