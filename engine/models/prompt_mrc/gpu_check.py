"""The extractor's own part of the GPU check, see `engine.benchmarks.gpu_check`."""

from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.entities import gpu_check
from engine.models.entities.gpu_check import entities, unsure

if TYPE_CHECKING:
    from engine.models.prompt_mrc.extractor import Extractor

__all__ = ["extra", "unsure"]


def extra(system: "Extractor", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every entity gets evidence if that is asked for, and a type without training is found."""
    checks = gpu_check.extra(system, prepared)
    if system.config.is_hard:
        asked = entities(system, prepared, questions={"Specimen": "Which specimens or tissues are named?"})
        checks["a question of one's own"] = all(0 < entity["score"] <= 1 for entity in asked if entity["zero_shot"])
    return checks
