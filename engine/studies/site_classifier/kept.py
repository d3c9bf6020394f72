"""Trained models that are kept under the digest of what they learned from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine.storage import whole_file
from engine.training.loop import Learner


def identity_of(settings: Mapping[str, Any], texts: Iterable[Any]) -> str:
    """The digest of a model's settings and of the texts that it learns from, in plain values."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for text in texts:
        digest.update(json.dumps(text, sort_keys=True).encode())
    return digest.hexdigest()


def save_kept(learner: Learner, file: Path) -> None:
    """Keeps the trained tensors; of two processes that train the same model either may win."""
    tensors = {name: value.detach().contiguous() for name, value in learner.parameters().items() if value.requires_grad}
    with whole_file(file) as part:
        save_file(tensors, part)


def load_kept(learner: Learner, file: Path) -> bool:
    """Puts the tensors of a kept model in place; False where there is none."""
    if not file.is_file():
        return False
    tensors = load_file(file)
    with torch.no_grad():
        for name, value in learner.parameters().items():
            if value.requires_grad:
                value.copy_(tensors[name])
    return True
