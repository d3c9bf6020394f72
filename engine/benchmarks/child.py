"""One run in a process of its own, timed and with its peak memory: `python -m engine.benchmarks.child <request> <answer>`.

A run that is measured must not inherit a warm allocator, loaded weights or a running cluster from the one before it. And the
model's allocator settings, which the engine gives its actors, can only be given to a process at its start: here every contender
has them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import EXIT_CONFIG, EXIT_RETRY, ConfigError, ContractError, EngineError, RetryableError
from engine.storage import S3Config, s3_config, use_s3

if TYPE_CHECKING:
    from engine.pipeline.config import ClusterConfig

ENGINE, LOOP, CORE, EVIDENCE = "engine", "loop", "core", "evidence"


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
    """Progress that notes when the first shard was committed, and how large it was."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.first: float | None = None
        self.first_bytes = self.bytes = self.records = 0

    def note(self, line: str) -> None: ...

    def wait(self, what: str) -> None: ...

    def start(self, state: Any) -> None:
        self.bytes = state.bytes_total

    def update(self, state: Any) -> None:
        self.records = state.records
        if self.first is None:
            self.first, self.first_bytes = time.perf_counter(), state.bytes

    def close(self) -> None: ...


def measure(what: str, request: Mapping[str, Any], cluster: "ClusterConfig", environment: Mapping[str, str] | None = None) -> Any:
    """What one of `ACTIONS` gives, done in a fresh process; plain values both ways.

    Args:
        request: what the action takes; `s3` in it is how the process reaches S3, as this one does without.
        environment: what the process has beyond this one's.

    Raises:
        ConfigError, RetryableError: as the child raised it.
        ContractError: the child failed otherwise; its own words are on stderr.
    """
    from engine.pipeline.cluster import model_environment

    # The engine sets its actors' environment itself; its driver must have what a user's has.
    alone = replace(cluster, actors=1)
    environment = {**os.environ, **(environment or {}), **(model_environment(alone) if what != ENGINE else {})}
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        question.write_text(json.dumps({"s3": asdict(s3_config()), **request}))
        command = [sys.executable, "-m", "engine.benchmarks.child", what, str(question), str(answer)]
        code = subprocess.run(command, env=environment).returncode
        if not answer.is_file():
            raise ContractError(f"benchmark: the process that measures '{what}' ended with exit code {code}")
        found = json.loads(answer.read_text())
    if "error" in found:
        kinds = {EXIT_CONFIG: ConfigError, EXIT_RETRY: RetryableError}
        raise kinds.get(found["code"], ContractError)(found["error"])
    return found["found"]


def run_part(name: str, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part of the benchmark that needs no cluster."""
    from engine.benchmarks import code_reports

    config = code_reports.BenchConfig.from_json(request)
    with tempfile.TemporaryDirectory(prefix="marginalia-bench-", dir=config.work) as folder:
        rows = code_reports.ALONE[name](config, Path(folder), lambda line: print(line, flush=True))
    return [asdict(row) for row in rows]


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
    from engine.models.run import probe, system_of
    from engine.pipeline import plan, work
    from engine.storage import storage_for

    config = _config(request)
    reader = storage_for(config.input.path)
    files = list(sources.list_files(config.input, reader))
    keep = pa.schema(sources.keep_fields(config.input, reader, files))
    shards = plan.cut(config, reader, files, sources.input_base(config.input))
    job = work.Job(config.input, config.model, config.output, "plain", keep.serialize().to_pybytes(), "plain", 1, 0)
    with PeakMemory() as memory:
        system = system_of(config.model)
        probe(system, keep)
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
        s3=s3_config(),
    )


ACTIONS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    ENGINE: lambda request: asdict(run_engine(request)),
    LOOP: lambda request: asdict(run_loop(request)),
    CORE: lambda request: run_part(CORE, request),
    EVIDENCE: lambda request: run_part(EVIDENCE, request),
}


def main(what: str, question: str, answer: str) -> int:
    code = 0
    request = json.loads(Path(question).read_text())
    use_s3(S3Config(**request.pop("s3", {})))
    try:
        told = {"found": ACTIONS[what](request)}
    except EngineError as error:
        told, code = {"error": str(error), "code": error.exit_code}, error.exit_code
    Path(answer).write_text(json.dumps(told))
    return code


if __name__ == "__main__":
    # Ctrl-C reaches the parent as well, which says what there is to say.
    with suppress(KeyboardInterrupt):
        sys.exit(main(*sys.argv[1:]))
    sys.exit(130)
