"""One call for every method.

    explanations = explain(model, batch, targets, "integrated_gradients", Settings(steps=20))

A batch may hold any number of records of any length: each pass through the model holds up to `tokens_per_pass` positions. A
record's explanation is the same alone and in any batch (1e-5 in fp32).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from engine.explain.explanation import Explanation
from engine.explain.fusion import fused
from engine.explain.methods import attribute
from engine.explain.passes import Work
from engine.explain.protocol import Explainable
from engine.explain.settings import Settings
from engine.text.units import Units


def explain(
    model: Explainable,
    batch: Any,
    targets: Tensor,
    method: str = "gradient_x_input",
    settings: Settings | None = None,
    units: Sequence[Units] | None = None,
) -> list[Explanation]:
    """One explanation per record, in their order.

    Args:
        targets: what to explain [records, ...], in the model's form. method: one of `methods.known_methods(model)`.
        units: what gets a score; None for the model's own units. `Units.merged` makes larger ones (sentences).
    Raises:
        ConfigError: there is no such method.
        ContractError: targets or units do not belong to these records.
    """
    return explained(work_for(model, batch, targets, settings, units), method)


def work_for(
    model: Explainable, batch: Any, targets: Tensor, settings: Settings | None = None, units: Sequence[Units] | None = None
) -> Work:
    """The input of the methods and of the measures (`faithfulness`, `stability`, `boundary`)."""
    return Work(model, batch, targets, model.units(batch) if units is None else units, settings or Settings())


def explained(work: Work, method: str) -> list[Explanation]:
    """`explain` for an existing `Work`; `stability` repeats `fused` with it."""
    return fused(work) if method == "fused" else attribute(work, method)
