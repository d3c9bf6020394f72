"""What explanations cost beside a prediction: seconds of explaining over seconds of predicting the same texts.

Both are taken in turns, some texts at a time, with the same model, arithmetic and threads; `cost_cpu` is in processor seconds,
which other work on the machine disturbs less.
"""

from engine.studies.explaining import explaining
from engine.studies.results import Measured, Row
from engine.studies.run import Model, Task


def measure(model: Model, task: Task) -> Measured:
    arm = explaining(model, task)
    if arm is None or not arm.explanations:
        return Measured([])
    predict, explain = arm.seconds
    return Measured(
        [Row(name, float(cost), n=len(arm.members)) for name, cost in zip(("cost", "cost_cpu"), explain / predict, strict=True)]
    )
