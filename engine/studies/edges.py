"""Do explanations of spans look at where the spans begin and end, and does the model: see `engine.explain.boundary`."""

import numpy as np
import pyarrow as pa

from engine.explain.boundary import boundary_checks, shift_margins
from engine.explain.rows import BOUNDARY
from engine.studies.explaining import explaining, parts
from engine.studies.means import mean
from engine.studies.results import Measured
from engine.studies.run import Model, Task


def measure(model: Model, task: Task) -> Measured:
    """Means of the weight on the edge, of its lift, of its rank correlation with erasing, and of the shift margin."""
    arm = explaining(model, task)
    if arm is None:
        return Measured([])
    rows = []
    for members in parts(arm.members):
        work = arm.work(members)
        margins = shift_margins(work)
        for place, at in enumerate(members):
            rows.append({**boundary_checks(work, place, arm.explanations[at]), "shift_margin": margins[place]})
    names = arm.columns()
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in (*BOUNDARY, "shift_margin")}
    figures = [mean(name, values, names["group"], task.study.rounds) for name, values in columns.items()]
    return Measured(figures, pa.table({**names, **columns}))
