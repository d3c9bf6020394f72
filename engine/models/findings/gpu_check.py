"""The part of the GPU check that concerns all systems of findings, see `engine.benchmarks.gpu_check`."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.models.columns import list_values
from engine.records import FINDINGS

if TYPE_CHECKING:
    from engine.models.findings.system import FindingSystem

Answer = str | tuple[str, str]


def unsure(system: "FindingSystem", prepared: pa.Table, tolerance: float) -> dict[int, list[Answer]]:
    """The findings of each study whose probability is within `tolerance` of a cut, and then its decision too."""
    scores = system.scores(prepared)
    near: dict[int, list[Answer]] = {}
    for row, logits in zip(scores["row"].to_pylist(), list_values(scores[f"{FINDINGS}_logits"]), strict=True):
        labels = [system.calibration[name].label(name, logit) for name, logit in zip(system.names, logits, strict=True)]
        close = [("finding", label["name"]) for label in labels if _distance(label) < tolerance]
        near[row] = [*close, "decision"] if close else []
    return near


def extra(system: "FindingSystem", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every positive finding gets evidence. All are made positive; one with the same logit for every
    study has nothing that evidence could point at."""
    few = prepared.slice(0, 4)
    options = replace(system.options, evidence="gradient_x_input", thresholds=dict.fromkeys(system.names, 0.0))
    rows = like(system, options).run(few).to_pylist()
    logits = {name: {label["logit"] for row in rows for label in row["labels"] if label["name"] == name} for name in system.names}
    varying = {name for name, values in logits.items() if len(values) > 1}
    evident = all(varying <= {region["label"] for region in row["evidence"]} for row in rows)
    return {"evidence of every positive finding": bool(varying) and evident}


def like(system: "FindingSystem", options: Any) -> "FindingSystem":
    """The same system on the same device under other options."""
    return type(system)(system.checkpoint, options, {"device": system.device, "batch_images": system.batch_images})


def _distance(label: dict[str, Any]) -> float:
    cuts = [label[name] for name in ("threshold", "lower", "upper") if label.get(name) is not None]
    return min((abs(label["prob"] - cut) for cut in cuts), default=math.inf)
