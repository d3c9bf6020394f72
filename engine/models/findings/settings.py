"""Settings of a run of a system of findings."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.keys import key
from engine.models.options import EVIDENCE, NONE, ImageOptions

GRADIENT = "gradient_x_input"


@dataclass(frozen=True)
class FindingOptions(ImageOptions):
    """Options of all systems of findings."""

    evidence: str = key(
        GRADIENT,
        "How the patches are chosen that a positive or unclear finding rests on: gradient_x_input, or none for no evidence.",
        at=EVIDENCE,
        choices=(GRADIENT, NONE),
    )
    thresholds: Mapping[str, float] = key(
        {},
        "Probability from which a finding is positive and below which it is negative, without anything unclear between, such as "
        "{Edema: 0.4}; for other findings the checkpoint's own bounds.",
        at="decision.thresholds",
        low=0.0,
        high=1.0,
    )
    required: tuple[str, ...] = key(
        (),
        "Findings that must be clear for a study to need no person; [] means all whose bounds keep a promise, and that no other "
        "finding is positive.",
        at="decision.required",
    )
