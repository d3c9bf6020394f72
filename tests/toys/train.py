"""A training of the line in a process of its own, which `DIE` may kill.

    python -m tests.toys.train '{"data": ..., "output": ...}'

With `here` in the order the steps are done in this process, without Ray. Prints the figures.
"""

import json
import os
import sys
from contextlib import nullcontext

import engine.training.run
from engine.training.config import LoopConfig
from engine.training.here import fit_here
from engine.training.run import train_system

LOOP = LoopConfig(epochs=3, batch=4, rate=0.05, checkpoint_every=2, report_every=1, seed=1)


def main(order: dict) -> None:
    os.environ["DRIVER"] = str(os.getpid())
    if order.get("here"):
        engine.training.run.session = nullcontext
        engine.training.run.fit = lambda config, work, report, remote: fit_here(config, work, report)
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
