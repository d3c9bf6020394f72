"""A training of the line in a process of its own, which `DIE` may kill.

    python -m tests.toys.train '{"data": ..., "output": ...}'

With `here` in the order the steps are done in this process, without Ray. Prints the figures.
"""

import json
import os
import pkgutil
import sys
from contextlib import nullcontext

import engine.training.run
from engine.training.config import LoopConfig
from engine.training.fit import FitConfig
from engine.training.loop import Worker, train
from engine.training.run import train_system

LOOP = LoopConfig(epochs=3, batch=4, rate=0.05, checkpoint_every=2, report_every=1, seed=1)


def fit(config: FitConfig, work, progress, remote=None):
    """In place of Ray Train's: the last state goes where the other keeps it, and is gone on with from there."""
    last = work / "last"
    resume = last if (last / "state.safetensors").is_file() else None
    learner = pkgutil.resolve_name(config.learner)(config.settings, Worker(batch=config.loop.batch))
    train(learner, config.loop, Worker(report=lambda row, _: progress(row)), work, resume)
    last.rename(work / "_last")


def main(order: dict) -> None:
    os.environ["DRIVER"] = str(os.getpid())
    if order.get("here"):
        engine.training.run.fit, engine.training.run.session = fit, nullcontext
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
