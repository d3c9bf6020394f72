"""Every method except `fused`, by name, and the function that runs one of them over a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.explain.erasing import kernel_shap, lime, occlusion
from engine.explain.explanation import Explanation, from_units
from engine.explain.gradients import attnlrp, baseline_kind, grad_l2, gradient_x_input, integrated_gradients
from engine.explain.passes import Scores, Work
from engine.explain.protocol import Explainable


def random(work: Work) -> Scores:
    """Random scores: every method must beat them."""
    return Scores([np.random.default_rng(work.seed(r, "random")).random(len(units)) for r, units in enumerate(work.units)])


METHODS: Mapping[str, Callable[[Work], Scores]] = {
    "gradient_x_input": gradient_x_input,
    "grad_l2": grad_l2,
    "integrated_gradients": integrated_gradients,
    "attnlrp": attnlrp,
    "occlusion": occlusion,
    "lime": lime,
    "kernel_shap": kernel_shap,
    "random": random,
}
SEEDED = frozenset({"lime", "kernel_shap", "random"})


def known_methods(model: Explainable) -> tuple[str, ...]:
    """Names of the methods that can explain a model."""
    return (*METHODS, "fused", *sorted(model.own_methods))


def attribute(work: Work, method: str) -> list[Explanation]:
    """Explains records by one method, any except `fused`: one explanation per record, in their order.

    A record without units, or whose scores are all zero or not finite, gets another `status`; its neighbours are not affected.

    Raises:
        ConfigError: the model has no such method.
    """
    if method not in METHODS and method not in work.model.own_methods:
        raise ConfigError(f"explain.method: '{method}' is none of {', '.join(known_methods(work.model))}")
    members = [record for record, units in enumerate(work.units) if len(units)]
    explanations = [from_units(units, np.zeros(0), **_facts(work, method, record)) for record, units in enumerate(work.units)]
    if not members:
        return explanations
    part = work if len(members) == work.records else work.only(members)
    if method in METHODS:
        scores = METHODS[method](part)
    else:
        scores = Scores(part.unit_scores(lambda places, batch, targets: part.model.own(method, batch, targets)))
    for place, record in enumerate(members):
        whole, bare = _at(scores.whole, place), _at(scores.bare, place)
        values = scores.units[place]
        if scores.whole is not None and whole is None:
            values = np.full_like(values, np.nan)
        ends = {"target_score": whole, "blank_score": bare}
        gap = None if whole is None or bare is None else float(values.sum() - (whole - bare))
        explanations[record] = from_units(work.units[record], values, residual=gap, **ends, **_facts(work, method, record))
    return explanations


def _facts(work: Work, method: str, record: int) -> dict[str, Any]:
    used = work.settings.used_by(method)
    if "baseline" in used:
        used["baseline"] = baseline_kind(method, work.settings.baseline)
    return {
        "method": method,
        "target": work.names[record],
        "score_kind": work.model.score_kind,
        "settings": used,
        "seed": work.seed(record, method) if method in SEEDED else None,
    }


def _at(values: np.ndarray | None, place: int) -> float | None:
    return float(values[place]) if values is not None and np.isfinite(values[place]) else None
