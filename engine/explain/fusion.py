"""One explanation from several: each method is weighted by how stable, boundary-aware and faithful it is on this record.

w_m = softmax_m((a S_m + b B_m + c Phi_m) / tau) with S_m the stability in 0..1, B_m the boundary value (0 for targets that are
no span) and Phi_m = comprehensiveness - sufficiency at 20 %, clipped to 0..1. A unit's strength is sum_m w_m st_mi a_mi, with st
the unit's stability and a its weight; its sign is the sign of the same sum over signed weights.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from engine.explain.boundary import boundary_value
from engine.explain.explanation import NOT_FINITE, OK, Explanation, from_units
from engine.explain.faithfulness import Reference, faithfulness
from engine.explain.methods import attribute
from engine.explain.passes import Work
from engine.explain.settings import Measures
from engine.explain.stability import Stability, perturbed, stability

_AT_20_PERCENT = Measures(shares=(0.2,), draws=0)
# Of one method on one record: its name, its explanation, the stability of that, and the three values that weight it.
_Part = tuple[str, Explanation, Stability, dict[str, float]]


def fused(work: Work) -> list[Explanation]:
    """The fused explanation of each record, with each method's weight in `fusion`."""
    if not work.records:
        return []
    copies = perturbed(work)
    missing = np.full((work.records, 1), np.nan)
    shared = Reference(work.whole("probability"), np.full(work.records, np.nan), missing, missing)
    parts: list[list[_Part]] = [[] for _ in range(work.records)]
    scores = np.full(work.records, np.nan)
    broken = np.zeros(work.records, dtype=bool)
    for method in work.settings.fuse:
        explanations = attribute(work, method)
        stabilities = stability(work, method, explanations, copies)
        faithful = faithfulness(work, explanations, _AT_20_PERCENT, shared)
        for record, explanation in enumerate(explanations):
            broken[record] |= explanation.status == NOT_FINITE
            if explanation.target_score is not None:
                scores[record] = explanation.target_score
            if explanation.status == OK:
                gap, value = faithful[record], stabilities[record].value
                quality = {
                    "stability": 0.5 if value is None else value,
                    "boundary": boundary_value(work, record, explanation),
                    "faithfulness": float(np.clip(gap.comp[0] - gap.suff[0], 0, 1)) if gap is not None else 0.0,
                }
                parts[record].append((method, explanation, stabilities[record], quality))
    return [
        _joined(work, record, [] if broken[record] else parts[record], scores[record], bool(broken[record]))
        for record in range(work.records)
    ]


def fusion_weights(qualities: list[dict[str, float]], alpha: float, beta: float, gamma: float, temperature: float) -> np.ndarray:
    """Weights [methods] that sum to 1."""
    values = [alpha * each["stability"] + beta * each["boundary"] + gamma * each["faithfulness"] for each in qualities]
    return softmax(np.array(values) / temperature)


def _joined(work: Work, record: int, parts: list[_Part], whole: float, broken: bool) -> Explanation:
    settings = work.settings
    facts: dict[str, Any] = {
        "method": "fused",
        "target": work.names[record],
        "score_kind": "share",
        "settings": settings.used_by("fused"),
        "seed": work.seed(record, "fused"),
        "target_score": float(whole) if np.isfinite(whole) else None,
    }
    count = len(work.units[record])
    if not parts:
        return from_units(work.units[record], np.full(count, np.nan if broken else 0.0), **facts)
    weights = fusion_weights([quality for *_, quality in parts], *settings.fuse_weights, settings.fuse_temperature)
    stable = np.stack([stability.units for _, _, stability, _ in parts])
    strength = stable * np.stack([explanation.weight for _, explanation, _, _ in parts])
    signs = np.sign(np.stack([explanation.score for _, explanation, _, _ in parts]))
    joined = weights @ strength
    # If the methods cancel out on a unit's sign, its strength counts for the answer.
    direction = np.where(weights @ (strength * signs) < 0, -1.0, 1.0)
    total = joined.sum()
    score = direction * joined / total if total > 0 else np.zeros(count)
    fusion = tuple({"method": name, "weight": float(w), **quality} for (name, *_, quality), w in zip(parts, weights, strict=True))
    return replace(from_units(work.units[record], score, **facts), stability=weights @ stable, fusion=fusion)
