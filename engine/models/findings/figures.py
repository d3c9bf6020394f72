"""The figures of a training of findings: how well the product's probabilities rank, decide and are calibrated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.findings import label_metrics, threshold_metrics, truth
from engine.evaluation.metrics import Rounds
from engine.models.findings.decide import FindingCalibration
from engine.models.findings.fitting import Promise

_SHOWN = ("auroc", "ap", "f1", "mcc")


def measured(
    names: Sequence[str],
    calibration: Mapping[str, FindingCalibration],
    logits: NDArray,
    states: NDArray,
    group: NDArray,
    rounds: Rounds | None = None,
) -> dict[str, Any]:
    """Figures on labelled studies: `test` by slice and metric with 95 % intervals, drawn by `group`, and `skipped`, the findings
    that lack yes or no. Findings that are not answered have no figures that use thresholds.

    Args:
        logits, states: [studies, findings]. group: [studies], the patients.
    """
    rounds = rounds or Rounds()
    prob = np.stack([calibration[name].probabilities(column) for name, column in zip(names, logits.T, strict=True)], 1)
    predicted = np.stack([calibration[name].positive(column) for name, column in zip(names, prob.T, strict=True)], 1)
    true = truth(states)
    decided = np.where([calibration[name].answered for name in names], true, np.nan)
    metrics = label_metrics(list(names), prob.astype(float), true, group, rounds)
    metrics += threshold_metrics(list(names), predicted, decided, group, rounds)
    figures: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        figures.setdefault(metric.slice, {})[metric.metric] = [metric.value, metric.low, metric.high]
    lacking = [name for name, column in zip(names, true.T, strict=True) if len(set(column[~np.isnan(column)])) < 2]
    return {"test": figures, "skipped": lacking}


def measured_lines(figures: Mapping[str, Any]) -> list[str]:
    """The main figures in a few lines."""
    test = figures["test"]
    overall = test.get("all", {})
    lines = [
        f"{name.replace('_', ' ')} {overall[name][0]:.3f} on test" for name in ("macro_auroc", "micro_auroc") if name in overall
    ]
    for part, values in test.items():
        if part.startswith("label=") and values.get("auroc", [None])[0] is not None:
            shown = ", ".join(
                f"{name.upper()} {values[name][0]:.3f}" for name in _SHOWN if values.get(name, [None])[0] is not None
            )
            lines.append(f"{part.removeprefix('label=')}: {shown}")
    return lines


def rarities(calibration: Mapping[str, FindingCalibration], promise: Promise) -> dict[str, str]:
    """The findings without a promise, each with why."""
    positives, negatives = promise.least
    return {
        name: f"{each.positives:,} studies with it and {each.negatives:,} without; needs {positives:,} and {negatives:,}"
        for name, each in calibration.items()
        if not each.promised
    }
