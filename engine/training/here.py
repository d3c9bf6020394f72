"""Training in this process, without Ray."""

import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from engine.training.fit import FitConfig
from engine.training.loop import Worker, train
from engine.training.state import STATE

Row = Mapping[str, Any]


def fit_here(config: FitConfig, work: Path, report: Callable[[Row], None] = lambda row: None) -> Path:
    """Trains a learner in this process; returns the folder with its last state, as `engine.training.fit.fit` does."""
    last, whole = work / "last", work / "_last"
    worker = Worker(
        device=torch.device("cuda" if config.gpu else "cpu"), report=lambda row, _: report(row), batch=config.loop.batch
    )
    learner = pkgutil.resolve_name(config.learner)(config.settings, worker)
    train(learner, config.loop, worker, work, last if (last / STATE).is_file() else None)
    last.rename(whole)
    return whole
