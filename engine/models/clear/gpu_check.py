"""The part of the GPU check that concerns CLEAR alone, see `engine.benchmarks.gpu_check`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.models.columns import list_values
from engine.models.findings import gpu_check
from engine.models.findings.gpu_check import like, unsure
from engine.records import FINDINGS

if TYPE_CHECKING:
    from engine.models.clear.system import Clear

__all__ = ["extra", "unsure"]

# Of probabilities, between the two memory formats; of logits in fp32, between a sum and its parts.
_TOLERANCE, _ROUNDING = 0.02, 1e-3


def extra(system: "Clear", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every positive finding gets evidence, images whose channels come last get the same answers, and a
    finding's concepts add up to its logit."""
    return {
        **gpu_check.extra(system, prepared),
        "channels_last": _channels_last(system, prepared),
        "concepts add up": all(map(_adds_up, like(system, replace(system.options, concepts=5)).run(prepared).to_pylist())),
    }


def _channels_last(system: "Clear", prepared: pa.Table) -> bool:
    """Filters and images in both memory formats."""
    import torch

    few, probs = prepared.slice(0, 16), []
    for layout in (torch.channels_last, torch.contiguous_format):
        other = like(system, system.options)
        other.network.encoder.to(memory_format=layout)
        logits = np.stack(list_values(other.scores(few)[f"{FINDINGS}_logits"]))
        probs.append(np.stack([other.calibration[n].probabilities(logits[:, at]) for at, n in enumerate(other.names)]))
    return bool(np.abs(probs[0] - probs[1]).max() < _TOLERANCE)


def _adds_up(row: dict[str, Any]) -> bool:
    def total(label: dict[str, Any]) -> float:
        scores = [each["score"] for each in row["concepts"] if each["label"] == label["name"]]
        return label["intercept"] + sum(scores) + label["rest"]

    return all(abs(total(label) - label["logit"]) < _ROUNDING * max(1.0, abs(label["logit"])) for label in row["labels"])
