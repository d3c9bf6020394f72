"""Does an explanation of a span look at where the span begins and ends, and does the model itself?

The edge W is the unit before the span, its first, its last and the unit after it, as far as they exist.
"""

import numpy as np
import torch

from engine.explain.explanation import Explanation, edge_units, inside_units
from engine.explain.passes import Work
from engine.explain.protocol import SpanExplainable
from engine.explain.rows import BOUNDARY
from engine.explain.stability import spearman

RADIUS = 5


def boundary_units(explanation: Explanation) -> np.ndarray:
    """W as unit numbers; empty if the target is no span of the text, or no unit lies in it."""
    return edge_units(explanation.target, explanation.start, explanation.end)


def boundary_shares(explanation: Explanation) -> tuple[float | None, float | None]:
    """The share of the weight on W and its lift over an even spread; None where nothing has a weight or W is empty."""
    edge = boundary_units(explanation)
    if explanation.degenerate or not len(edge):
        return None, None
    mass = float(explanation.weight[edge].sum())
    return mass, mass / (len(edge) / len(explanation.weight))


def boundary_checks(work: Work, record: int, explanation: Explanation) -> dict[str, float | None]:
    """Columns of the explanations table, None if the target is no span of the text: the share of the weight on W, its lift over
    an even spread, and the Spearman correlation of weights with what F loses as each unit within 5 of the span is erased (None
    for under two units)."""
    mass, lift = boundary_shares(explanation)
    if mass is None:
        return dict.fromkeys(BOUNDARY)
    inside, faith = inside_units(explanation.target, explanation.start, explanation.end), None
    near = np.arange(max(0, inside[0] - RADIUS), min(len(explanation.start), inside[-1] + RADIUS + 1))
    if len(near) > 1:
        values = work.erased([(record, np.arange(0)), *((record, np.array([unit])) for unit in near)])
        faith = spearman(explanation.weight[near], values[0] - values[1:])
    return dict(zip(BOUNDARY, (mass, lift, faith), strict=True))


def boundary_value(work: Work, record: int, explanation: Explanation) -> float:
    """Both measures as one from 0 to 1, 0 if the target is no span: half the lift over its largest value, half the correlation
    mapped to 0..1."""
    checks = boundary_checks(work, record, explanation)
    lift, faith = checks["boundary_lift"], checks["boundary_faith"]
    if lift is None:
        return 0.0
    highest = len(explanation.weight) / len(boundary_units(explanation))
    return 0.5 * (min(1.0, lift / highest) + (0.5 if faith is None else (faith + 1) / 2))


@torch.no_grad()
def shift_margins(work: Work) -> list[float | None]:
    """How far F of each record's span lies above the best span with one end shifted by a word; None for targets that are no
    spans, and if nothing can be shifted."""
    margins = np.full(work.records, np.nan)
    if isinstance(work.model, SpanExplainable):
        for places, batch, targets in work.passes(range(work.records)):
            margins[places] = work.model.shift_margin(batch, targets).double().cpu().numpy()
    return [float(margin) if np.isfinite(margin) else None for margin in margins]
