"""From logits to findings, and the reasons for review.

Probabilities and cuts are float32, as in the table, so that a row's numbers show its decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

NO_FINDING, DEVICES = "No Finding", "Support Devices"


@dataclass(frozen=True)
class FindingCalibration:
    """How a finding's logit is read: its probability is sigmoid(logit / `temperature` + `bias`) (Platt scaling).

    Below `lower` the finding is clearly absent, from `upper` on it is clearly present, and between them it is unclear; both are
    None if too few cases could show that the bounds keep a promise. `threshold`, which lies between them, decides in any case.
    Where it is None, as nothing could be fitted, the finding has a probability but is not answered. `positives` and `negatives`
    are the cases that all this was fitted on.
    """

    temperature: float = 1.0
    bias: float = 0.0
    threshold: float | None = None
    lower: float | None = None
    upper: float | None = None
    positives: int = 0
    negatives: int = 0

    @property
    def answered(self) -> bool:
        return self.threshold is not None

    @property
    def promised(self) -> bool:
        return self.lower is not None and self.upper is not None

    def at(self, cut: float) -> "FindingCalibration":
        """The same with one cut, and nothing unclear."""
        cut = float(np.float32(cut))
        return replace(self, threshold=cut, lower=cut, upper=cut)

    def probabilities(self, logits: NDArray) -> NDArray[np.float32]:
        """Probabilities [n] of logits [n]."""
        # The sigmoid in a form that does not overflow; this file is read on machines without scipy.
        return np.exp(-np.logaddexp(0.0, -(np.asarray(logits, np.float64) / self.temperature + self.bias))).astype(np.float32)

    def positive(self, prob: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which probabilities [n] the finding is positive at, none if it is not answered."""
        return np.zeros(np.shape(prob), bool) if self.threshold is None else prob >= np.float32(self.threshold)

    def unclear(self, prob: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which probabilities [n] lie between the bounds, all if there are none."""
        if not self.promised:
            return np.ones(np.shape(prob), bool)
        return (prob >= np.float32(self.lower)) & (prob < np.float32(self.upper))

    def label(self, name: str, logit: float) -> dict[str, Any]:
        """The finding in a study, a value of `engine.records.LABEL`."""
        (prob,) = self.probabilities(np.array([logit]))
        label = {"name": name, "prob": float(prob), "logit": float(logit)}
        if not self.answered:
            return {**label, "threshold": None, "pred": None, "clear": None}
        bounds = {"lower": self.lower, "upper": self.upper} if self.promised else {}
        answer = {"pred": int(self.positive(prob)), "clear": not self.unclear(prob)}
        return {**label, "threshold": self.threshold, **bounds, **answer}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def chosen_calibration(
    names: Sequence[str],
    fitted: Mapping[str, FindingCalibration],
    thresholds: Mapping[str, float],
    required: Sequence[str],
) -> dict[str, FindingCalibration]:
    """The calibration of each finding, those that the user gives a threshold with that cut.

    Raises:
        ConfigError: a setting names a finding that the model does not know.
    """
    for key, given in (("decision.thresholds", thresholds), ("decision.required", required)):
        for name in given:
            if name not in names:
                raise ConfigError(f"{key}: the model has no finding '{name}'; it has {', '.join(names)}")
    own = {name: fitted.get(name, FindingCalibration()) for name in names}
    return {name: own[name].at(thresholds[name]) if name in thresholds else own[name] for name in names}


def unclear_reasons(labels: Sequence[Mapping[str, Any]], required: Sequence[str] = ()) -> set[str]:
    """Why a study's findings need a person.

    Those of `required` must be clear; one without a promise never is. By default every finding with a promise must be clear, and
    none without one may be positive, which one that is not answered never is. A model without any promise clears no study.
    """
    promised = {label["name"]: label.get("lower") is not None for label in labels}
    reasons = {"no_promise"} if not any(promised.values()) else set()
    for label in labels:
        name = label["name"]
        if not label["clear"] and (name in required or not required):
            if promised[name]:
                reasons.add("near_threshold")
            elif required or label["pred"]:
                reasons.add("no_promise")
    return reasons


def contradicts_itself(labels: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `No Finding` is positive together with another finding; devices are none."""
    positive = {label["name"] for label in labels if label["pred"]}
    return NO_FINDING in positive and bool(positive - {NO_FINDING, DEVICES})
