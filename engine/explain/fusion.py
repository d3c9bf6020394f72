"""One explanation out of several: methods weigh in by how stable, boundary-aware and faithful they are on this very record.

w_m = softmax_m((a S_m + b B_m + c Phi_m) / tau) with S_m the stability in 0..1, B_m the boundary value (0 for targets that are
no span) and Phi_m = comprehensiveness - sufficiency at 20 %, cut to 0..1. A unit's strength is sum_m w_m st_mi a_mi, with st the
unit's own steadiness and a its weight; its sign is the sign of the same sum over signed weights.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax

from engine.explain.boundary import boundary_checks, boundary_units, boundary_value
from engine.explain.explanation import NOT_FINITE, OK, Explanation, from_units
from engine.explain.faithfulness import Reference, faithfulness
from engine.explain.methods import attribute
from engine.explain.passes import Work
from engine.explain.settings import Measures
from engine.explain.stability import Stability, perturbed, stability

_AT = Measures(shares=(0.2,), draws=0)


def fused(work: Work) -> list[Explanation]:
    """The fused explanation of each record, with each method's say in `fusion`."""
    if not work.records:
        return []
    copies = perturbed(work)
    missing = np.full((work.records, 1), np.nan)
    shared = Reference(work.whole("probability"), np.full(work.records, np.nan), missing, missing)
    parts: list[list[tuple[str, Explanation, Stability, dict[str, float]]]] = [[] for _ in range(work.records)]
    scores = np.full(work.records, np.nan)
    broken = np.zeros(work.records, dtype=bool)
    for method in work.settings.fuse:
        found = attribute(work, method)
        steady = stability(work, method, found, copies)
        faithful = faithfulness(work, found, _AT, shared)
        for record, explanation in enumerate(found):
            broken[record] |= explanation.status == NOT_FINITE
            if explanation.target_score is not None:
                scores[record] = explanation.target_score
            if explanation.status == OK:
                gap = faithful[record]
                say = {
                    "stability": 0.5 if steady[record].value is None else steady[record].value,
                    "boundary": _boundary(work, record, explanation),
                    "faithfulness": float(np.clip(gap.comp[0] - gap.suff[0], 0, 1)) if gap is not None else 0.0,
                }
                parts[record].append((method, explanation, steady[record], say))
    return [
        _joined(work, record, [] if broken[record] else parts[record], scores[record], bool(broken[record]))
        for record in range(work.records)
    ]


def fusion_weights(says: list[dict[str, float]], alpha: float, beta: float, gamma: float, temperature: float) -> np.ndarray:
    """Weights [methods] that sum to 1."""
    value = [alpha * say["stability"] + beta * say["boundary"] + gamma * say["faithfulness"] for say in says]
    return softmax(np.array(value) / temperature)


def _boundary(work: Work, record: int, explanation: Explanation) -> float:
    checks = boundary_checks(work, record, explanation)
    target = explanation.target
    if checks["boundary_lift"] is None or target is None or target.start is None or target.end is None:
        return 0.0
    edge = boundary_units(explanation, target.start, target.end)
    return boundary_value(checks, len(edge), len(explanation.weight)) or 0.0


def _joined(
    work: Work, record: int, parts: list[tuple[str, Explanation, Stability, dict[str, float]]], whole: float, broken: bool
) -> Explanation:
    settings = work.settings
    said: dict[str, Any] = {
        "method": "fused",
        "target": work.names[record],
        "score_kind": "share",
        "settings": settings.used_by("fused"),
        "seed": work.seed(record, "fused"),
        "target_score": float(whole) if np.isfinite(whole) else None,
    }
    count = len(work.units[record])
    if not parts:
        return from_units(work.units[record], np.full(count, np.nan if broken else 0.0), **said)
    weights = fusion_weights([say for *_, say in parts], *settings.fuse_weights, settings.fuse_temperature)
    steady = np.stack([one.units for _, _, one, _ in parts])
    strength = np.stack([explanation.weight for _, explanation, _, _ in parts])
    signs = np.sign(np.stack([explanation.score for _, explanation, _, _ in parts]))
    joined = weights @ (steady * strength)
    # Where methods disagree to the last bit on the sign, the unit's strength still counts, for the answer.
    direction = np.where(weights @ (steady * strength * signs) < 0, -1.0, 1.0)
    total = joined.sum()
    score = direction * joined / total if total > 0 else np.zeros(count)
    fusion = tuple({"method": name, "weight": float(w), **say} for (name, *_, say), w in zip(parts, weights, strict=True))
    return replace(from_units(work.units[record], score, **said), stability=weights @ steady, fusion=fusion)
