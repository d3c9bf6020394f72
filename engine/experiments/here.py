"""Training in this process, and models that are kept by what they learned from, for whoever trains alike.

A kept model is a safetensors file with the trained tensors and the curve.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine.storage import whole_file
from engine.training.config import LoopConfig
from engine.training.loop import Learner, Worker, train
from engine.training.state import STATE

Row = Mapping[str, Any]


def trained(
    learner: Learner, loop: LoopConfig, folder: Path, report: Callable[[Row], None] = lambda row: None
) -> list[dict[str, Any]]:
    """Trains in place and returns the curve; a training that was stopped goes on from its last checkpoint in `folder`.

    Args:
        learner: with the `device` it is on. report: called with each row of the curve as it comes.
    """
    last = folder / "last"
    worker = Worker(device=learner.device, report=lambda row, _: report(row))
    return train(learner, loop, worker, folder, last if (last / STATE).is_file() else None)


def learned_from(settings: Mapping[str, Any], texts: Iterable[Any]) -> str:
    """What stands for a model: the digest of its settings and of the texts it is trained on, in plain values."""
    made = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for text in texts:
        made.update(json.dumps(text, sort_keys=True).encode())
    return made.hexdigest()


def keep_model(learner: Learner, curve: list[dict[str, Any]], file: Path) -> None:
    """Keeps a trained model; of two who train the same one at once either may."""
    tensors = {name: value.detach().contiguous() for name, value in learner.parameters().items() if value.requires_grad}
    with whole_file(file) as part:
        save_file(tensors, part, metadata={"curve": json.dumps(curve)})


def kept_model(learner: Learner, file: Path) -> list[dict[str, Any]] | None:
    """Puts the weights of a kept model in place and returns its curve; None where there is none."""
    if not file.is_file():
        return None
    tensors = load_file(file)
    with torch.no_grad():
        for name, value in learner.parameters().items():
            if value.requires_grad:
                value.copy_(tensors[name])
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["curve"])
