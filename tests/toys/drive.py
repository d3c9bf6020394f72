"""A driver in a process of its own, which may kill itself: `python -m tests.toys.drive '{"input": ..., "die": "update:3"}'`.

`system` and `path` name another model than the toy, `reading` has the input's settings in place of `id`. `die` is `start`,
`update:<shards>`, `publish` or `manifest` (published by name, not yet moved). Ends with the engine's exit code and prints the
summary's counts and whether Ray was imported.
"""

import json
import logging
import os
import signal
import sys

from engine.errors import EngineError
from engine.models.base import ModelSpec
from engine.pipeline import ClusterConfig, Progress, RunConfig, Standing, published, run
from engine.pipeline.progress import PUBLISHING
from engine.sources import InputConfig
from engine.storage import S3Config


class Killer(Progress):
    def __init__(self, when: str) -> None:
        self._when = when
        if when == "manifest":
            published.settle = lambda *_: die()

    def start(self, state: Standing) -> None:
        if self._when == "start":
            die()

    def update(self, state: Standing) -> None:
        if self._when.startswith("update:") and state.shards >= int(self._when.split(":")[1]):
            die()

    def wait(self, what: str) -> None:
        if self._when == "publish" and what == PUBLISHING:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(order: dict) -> int:
    logging.basicConfig(level=logging.INFO)
    settings = RunConfig(
        input=InputConfig(order["input"], **order.get("reading", {"id": "id"})),
        model=ModelSpec(
            order.get("system", "tests.toys.plain"), order.get("path", ""), order.get("options", {}), order.get("runtime", {})
        ),
        output=order["output"],
        cluster=ClusterConfig(**order.get("cluster", {})),
        shard_bytes=order.get("shard_bytes"),
        s3=S3Config(**order.get("s3", {})),
    )
    try:
        summary = run(settings, Killer(order.get("die", "")))
    except EngineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({"records": summary.records, "new": summary.new_records, "ray": "ray" in sys.modules}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
