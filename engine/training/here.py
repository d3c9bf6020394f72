"""Training in this process, without Ray; one that was stopped goes on from its last checkpoint."""

import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from engine.training.config import LoopConfig
from engine.training.fit import FitConfig
from engine.training.loop import Learner, Worker, train
from engine.training.state import STATE

Report = Callable[[Mapping[str, Any]], None]


def fit_here(config: FitConfig, work: Path, report: Report) -> Path:
    """Trains a learner; returns the folder with its last state, as `engine.training.fit.fit` does."""
    device = torch.device("cuda" if config.gpu else "cpu")
    worker = Worker(device=device, report=lambda row, _: report(row), batch=config.loop.batch)
    learner = pkgutil.resolve_name(config.learner)(config.settings, worker)
    train_here(learner, config.loop, worker, work)
    (work / "last").rename(work / "_last")
    return work / "_last"


def train_here(learner: Learner, loop: LoopConfig, worker: Worker, work: Path) -> list[dict[str, Any]]:
    """Trains in place and returns the curve; leaves `work/last` behind, from which the same call goes on."""
    last = work / "last"
    return train(learner, loop, worker, work, last if (last / STATE).is_file() else None)
