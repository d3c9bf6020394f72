"""Does an explanation of a span look at where the span begins and ends, and does the model itself?

W is the unit before the span, its first, its last and the unit after it, as far as they exist.
"""

import numpy as np
import torch

from engine.explain.explanation import Explanation
from engine.explain.passes import Work
from engine.explain.protocol import SpanExplainable
from engine.explain.stability import spearman

RADIUS = 5


def boundary_units(explanation: Explanation, start: int, end: int) -> np.ndarray:
    """W as unit numbers, for a span of characters; empty where no unit lies in the span."""
    inside = np.flatnonzero((explanation.start < end) & (explanation.end > start))
    if not len(inside):
        return inside
    first, last = int(inside[0]), int(inside[-1])
    wanted = np.unique([first - 1, first, last, last + 1])
    return wanted[(wanted >= 0) & (wanted < len(explanation.start))]


def boundary_mass(explanation: Explanation, edge: np.ndarray) -> tuple[float, float]:
    """The share of the weight on W, and its lift over an even spread."""
    mass = float(explanation.weight[edge].sum())
    return mass, mass / (len(edge) / len(explanation.weight))


def boundary_faithfulness(work: Work, record: int, explanation: Explanation, start: int, end: int) -> float | None:
    """Spearman correlation of weights and of what F loses as each unit within 5 of the span is erased; None for under two."""
    inside = np.flatnonzero((explanation.start < end) & (explanation.end > start))
    if not len(inside):
        return None
    near = np.arange(max(0, inside[0] - RADIUS), min(len(explanation.start), inside[-1] + RADIUS + 1))
    if len(near) < 2:
        return None
    values = work.erased([(record, np.arange(0)), *((record, np.array([unit])) for unit in near)])
    return spearman(explanation.weight[near], values[0] - values[1:])


def boundary_checks(work: Work, record: int, explanation: Explanation) -> dict[str, float | None]:
    """Columns of the explanations table, None where the target is no span of the text."""
    target = explanation.target
    if target is None or target.start is None or target.end is None or explanation.degenerate:
        return dict.fromkeys(("boundary_mass", "boundary_lift", "boundary_faith"))
    edge = boundary_units(explanation, target.start, target.end)
    if not len(edge):
        return dict.fromkeys(("boundary_mass", "boundary_lift", "boundary_faith"))
    mass, lift = boundary_mass(explanation, edge)
    faith = boundary_faithfulness(work, record, explanation, target.start, target.end)
    return {"boundary_mass": mass, "boundary_lift": lift, "boundary_faith": faith}


@torch.no_grad()
def shift_margins(work: Work) -> list[float | None]:
    """How far F of each record's span lies above the best that a shift of one of its ends by a word gives; None for targets that
    are no spans, and where nothing can be shifted."""
    margins = np.full(work.records, np.nan)
    if isinstance(work.model, SpanExplainable):
        for places, batch, targets in work.passes(range(work.records)):
            margins[places] = work.model.shift_margin(batch, targets).double().cpu().numpy()
    return [float(margin) if np.isfinite(margin) else None for margin in margins]


def boundary_value(checks: dict[str, float | None], edge: int, units: int) -> float | None:
    """Both measures as one from 0 to 1: half the lift over its largest value, half the correlation brought to 0..1."""
    lift, faith = checks["boundary_lift"], checks["boundary_faith"]
    if lift is None:
        return None
    return 0.5 * (min(1.0, lift / (units / edge)) + (0.5 if faith is None else (faith + 1) / 2))
