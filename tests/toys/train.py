"""A training of the line in a process of its own, which `DIE` may kill.

    python -m tests.toys.train '{"data": ..., "output": ...}'

With `here` in the order the steps are done in this process, without Ray. Prints the figures.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import engine.training.run
from engine.training.config import LoopConfig
from engine.training.fit import FitConfig
from engine.training.here import fit_here
from engine.training.run import train_system

LOOP = LoopConfig(epochs=3, batch=4, rate=0.05, checkpoint_every=2, report_every=1, seed=1)


def fit(config: FitConfig, work: Path, report: Callable[[Mapping[str, Any]], None], remote: str | None = None) -> Path:
    """`engine.training.fit.fit` in this process."""
    return fit_here(config, work, report)


def main(order: dict) -> None:
    os.environ["DRIVER"] = str(os.getpid())
    if order.get("here"):
        engine.training.run.session = nullcontext
        engine.training.run.fit = fit
    settings = {"data": {"path": order["data"]}, "precision": "fp32", "seed": 1}
    figures = train_system(
        "tests.toys.learned",
        settings,
        order["output"],
        loop=LOOP,
        command="a command",
        say=lambda line: print(line, file=sys.stderr, flush=True),
        cluster={"threads": 1, **order.get("cluster", {})},
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
