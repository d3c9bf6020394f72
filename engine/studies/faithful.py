"""How faithful explanations are: how far the answer's probability falls when the strongest units go, or alone stay."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.explain.explanation import OK, Explanation
from engine.explain.faithfulness import Faithfulness, faithfulness
from engine.explain.settings import Measures
from engine.studies.explaining import explaining, parts
from engine.studies.means import mean
from engine.studies.results import Measured
from engine.studies.run import Model, Task
from engine.studies.settings import options

_CHECKS = {
    "comprehensiveness": "comp_aopc",
    "sufficiency": "suff_aopc",
    "random_comp": "random_comp",
    "random_suff": "random_suff",
}


@dataclass(frozen=True)
class _Options:
    """Settings `faithful.<name>`: draws of the random units."""

    draws: int = 5


def measure(model: Model, task: Task) -> Measured:
    """Comprehensiveness and sufficiency, both less those of random units, and the residual: what the scores leave unexplained, as
    a share of what there is to explain."""
    arm = explaining(model, task)
    if arm is None:
        return Measured([])
    measures, rows = Measures(draws=options(_Options, task, "faithful").draws), []
    for members in parts(arm.members):
        explanations = [arm.explanations[at] for at in members]
        shared = arm.references(members, measures)
        faithful = faithfulness(arm.copies(members), explanations, measures, shared)
        rows += [_row(*each) for each in zip(explanations, faithful, strict=True)]
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]} if rows else {}
    names, failed = arm.columns(), sum(explanation.status != OK for explanation in arm.explanations.values())
    note, groups, rounds = f"{failed} without an explanation left out" if failed else "", names["group"], task.study.rounds
    figures = [mean(name, columns[name], groups, rounds, note=note) for name in ("gain", *list(_CHECKS)[:2], "sufficiency_gain")]
    figures.append(mean("residual", columns["residual"], groups, rounds, columns["gap"]))
    return Measured(figures, pa.table({**names, **columns}))


def _row(explanation: Explanation, faithful: Faithfulness | None) -> dict[str, float]:
    """The figures of one explanation; NaN is none."""
    checks = {} if faithful is None else faithful.checks()
    values = {name: _number(checks.get(check)) for name, check in _CHECKS.items()}
    gaps = (explanation.target_score, explanation.blank_score)
    return {
        **values,
        "gain": values["comprehensiveness"] - values["random_comp"],
        "sufficiency_gain": values["random_suff"] - values["sufficiency"],
        "residual": abs(_number(explanation.residual if explanation.status == OK else None)),
        "gap": abs(_number(gaps[0]) - _number(gaps[1])),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
