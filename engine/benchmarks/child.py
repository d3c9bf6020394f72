"""One run in a process of its own, timed and with its peak memory: `python -m engine.benchmarks.child <request> <answer>`.

A run that is measured must not inherit a warm allocator, loaded weights or a running cluster from the one before it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ContractError

ENGINE, LOOP = "engine", "loop"


@dataclass(frozen=True)
class Ran:
    """What a run took: `seconds` in all (of a loop, from the loaded model), `after_first` of them after the first receipt.

    `first_bytes` of `bytes` were in that first shard. `peak`, `driver` and `workers` are MiB.
    """

    seconds: float
    after_first: float
    first_bytes: int
    bytes: int
    records: int
    peak: float
    driver: float
    workers: float


class Watch:
    """A reporter that notes when the first shard was committed, and how large it was."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.first: float | None = None
        self.first_bytes = self.bytes = self.records = 0

    def start(self, state: Any) -> None:
        self.bytes = state.bytes_total

    def update(self, state: Any) -> None:
        self.records = state.records
        if self.first is None:
            self.first, self.first_bytes = time.perf_counter(), state.bytes

    def publish(self) -> None: ...

    def close(self) -> None: ...


def measure(what: str, request: Mapping[str, Any]) -> Ran:
    """Runs one of `engine` and `loop` in a fresh process.

    Args:
        request: `input`, `model`, `cluster` as their dataclasses' fields, `output`, and `shard_bytes` or None.
    Raises:
        ContractError: the run failed; its own words are on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        question.write_text(json.dumps({"what": what, **request}))
        done = subprocess.run([sys.executable, "-m", "engine.benchmarks.child", str(question), str(answer)], stdout=sys.stderr)
        if done.returncode or not answer.is_file():
            raise ContractError(f"benchmark: the {what} run ended with exit code {done.returncode}")
        return Ran(**json.loads(answer.read_text()))


def run_engine(request: Mapping[str, Any]) -> Ran:
    """The engine as a user runs it, with its own cluster, its tables published."""
    from engine import pipeline
    from engine.benchmarks.memory import PeakMemory

    watch = Watch()
    with PeakMemory() as memory:
        pipeline.run(_config(request), watch)
        end = time.perf_counter()
    if watch.first is None:
        raise ContractError("benchmark: the run committed nothing; its output folder is not empty")
    return Ran(
        end - watch.begun,
        end - watch.first,
        watch.first_bytes,
        watch.bytes,
        watch.records,
        memory.peak,
        memory.driver,
        memory.workers,
    )


def run_loop(request: Mapping[str, Any]) -> Ran:
    """A plain Python loop over the same shards around the same system class, one table written at the end."""
    from engine import sources
    from engine.benchmarks.memory import PeakMemory
    from engine.pipeline import plan, work
    from engine.storage import storage_for

    config = _config(request)
    reader = storage_for(config.input.path)
    files = list(sources.list_files(config.input, reader))
    keep = pa.schema(sources.keep_fields(config.input, reader, files))
    shards = list(sources.cut(config.input, reader, files, plan.shard_bytes(config, sum(entry.size for entry in files))))
    job = work.Job(config.input, config.model, config.output, "plain", keep.serialize().to_pybytes(), "plain", 1, 0)
    with PeakMemory() as memory:
        system = work.system_of(config.model)
        work.probe(system)
        begun = time.perf_counter()
        tables = [work.code(job, system, shard) for shard in shards]
        Path(config.output).mkdir(parents=True, exist_ok=True)
        rows = pa.concat_tables(tables)
        pq.write_table(rows, Path(config.output, "codes.parquet"), compression="zstd")
        seconds = time.perf_counter() - begun
    total = sum(shard.bytes for shard in shards)
    return Ran(seconds, seconds, 0, total, rows.num_rows, memory.peak, memory.driver, memory.workers)


def _config(request: Mapping[str, Any]) -> Any:
    from engine.models.base import ModelSpec
    from engine.pipeline.config import ClusterConfig, RunConfig
    from engine.sources import InputConfig

    given = dict(request["input"])
    return RunConfig(
        input=InputConfig(**given | {"keep": tuple(given.get("keep", ()))}),
        model=ModelSpec(**request["model"]),
        output=request["output"],
        cluster=ClusterConfig(**request.get("cluster", {})),
        shard_bytes=request.get("shard_bytes"),
    )


def main(arguments: list[str]) -> None:
    request = json.loads(Path(arguments[0]).read_text())
    ran = {ENGINE: run_engine, LOOP: run_loop}[request.pop("what")](request)
    Path(arguments[1]).write_text(json.dumps(asdict(ran)))


if __name__ == "__main__":
    main(sys.argv[1:])
