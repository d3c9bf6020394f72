"""Training in this process, and a store of trained models, named by what they learned from.

A stored model is a safetensors file with the trained tensors and the curve.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine.storage import whole_file
from engine.training.config import LoopConfig
from engine.training.loop import Learner, Worker, set_weights, train
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
    """The name of a model: the digest of its settings and of its training texts, both plain values."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for text in texts:
        digest.update(json.dumps(text, sort_keys=True).encode())
    return digest.hexdigest()


def keep_model(learner: Learner, curve: list[dict[str, Any]], file: Path) -> None:
    """Stores a trained model. If two processes store the same one at once, either file may stay."""
    tensors = {name: value.detach().contiguous() for name, value in learner.parameters().items() if value.requires_grad}
    with whole_file(file) as part:
        save_file(tensors, part, metadata={"curve": json.dumps(curve)})


def kept_model(learner: Learner, file: Path) -> list[dict[str, Any]] | None:
    """Puts the weights of a stored model into a learner and returns the curve; None where the file does not exist."""
    if not file.is_file():
        return None
    set_weights({name: value for name, value in learner.parameters().items() if value.requires_grad}, load_file(file))
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["curve"])
