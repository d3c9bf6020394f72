"""Every method but `fused`, by name, and the call that runs one of them over a batch."""

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
    """A share drawn for each unit: what every method must beat."""
    drawn = [np.random.default_rng(work.seed(record, "random")).random(len(units)) for record, units in enumerate(work.units)]
    return Scores(drawn)


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
    """Names of the methods that a model can be explained with."""
    return (*METHODS, "fused", *sorted(model.own_methods))


def attribute(work: Work, method: str) -> list[Explanation]:
    """Explains records by one method, any but `fused`: one explanation a record, in their order.

    A record without units, with scores that are all zero or not finite has its `status` set and costs itself only.

    Raises:
        ConfigError: the model knows no such method.
    """
    if method not in METHODS and method not in work.model.own_methods:
        raise ConfigError(f"explain.method: '{method}' is none of {', '.join(known_methods(work.model))}")
    members = [record for record, units in enumerate(work.units) if len(units)]
    found = [_empty(work, method, record) for record in range(work.records)]
    if not members:
        return found
    some = work if len(members) == work.records else work.only(members)
    scores = METHODS[method](some) if method in METHODS else _own(some, method)
    for place, record in enumerate(members):
        whole, bare = _at(scores.whole, place), _at(scores.bare, place)
        values = scores.units[place]
        if scores.whole is not None and whole is None:
            values = np.full_like(values, np.nan)
        gap = None if whole is None or bare is None else float(values.sum() - (whole - bare))
        found[record] = from_units(
            work.units[record], values, target_score=whole, blank_score=bare, residual=gap, **_said(work, method, record)
        )
    return found


def _own(work: Work, method: str) -> Scores:
    units: list[Any] = [None] * work.records
    for places, batch, targets in work.passes(range(work.records)):
        values = work.model.own(method, batch, targets)
        for place, value in zip(places, work.split(places, values), strict=True):
            units[place] = work.to_units(place, value)
    return Scores(units)


def _said(work: Work, method: str, record: int) -> dict[str, Any]:
    used = work.settings.used_by(method)
    if "baseline" in used:
        used["baseline"] = baseline_kind(method, work.settings.baseline)
    seed = work.seed(record, method) if method in SEEDED else None
    return {
        "method": method,
        "target": work.names[record],
        "score_kind": work.model.score_kind,
        "settings": used,
        "seed": seed,
    }


def _empty(work: Work, method: str, record: int) -> Explanation:
    return from_units(work.units[record], np.zeros(0), **_said(work, method, record))


def _at(values: np.ndarray | None, place: int) -> float | None:
    return float(values[place]) if values is not None and np.isfinite(values[place]) else None
