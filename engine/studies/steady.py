"""How stable explanations are: do the weights keep their order when some units are masked and the answer holds?"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.explain.explain import explained
from engine.explain.stability import perturbed, stability
from engine.studies.explaining import explaining, parts, spread
from engine.studies.means import mean
from engine.studies.results import Measured
from engine.studies.run import Model, Task
from engine.studies.settings import options


@dataclass(frozen=True)
class _Options:
    """Settings `steady.<name>`: how many of the arm's targets are explained again as changed copies (`explain.perturbations`)."""

    records: int = 20


def measure(model: Model, task: Task) -> Measured:
    """The mean rank correlation of weights between a text and its changed copies, brought to 0..1."""
    arm = explaining(model, task)
    if arm is None:
        return Measured([])
    count = min(options(_Options, task, "steady").records, len(arm.members))
    values = dict.fromkeys(arm.members, float("nan"))
    for members in parts([arm.members[place] for place in spread(count, len(arm.members))]):
        work = arm.work(members)
        explanations = [arm.explanations[at] for at in members]
        stabilities = stability(work, arm.settings.method, explanations, perturbed(work), explained)
        values |= {at: each.value for at, each in zip(members, stabilities, strict=True) if each.value is not None}
    names, column = arm.columns(), np.array([values[at] for at in arm.members])
    return Measured([mean("stability", column, names["group"], task.study.rounds)], pa.table({**names, "stability": column}))
