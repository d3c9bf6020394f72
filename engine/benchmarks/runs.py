"""A whole run, timed and with its peak memory: by the engine, or by a plain loop. Each is for a process of its own."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ContractError
from engine.storage import s3_config


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


def engine(request: Mapping[str, Any]) -> dict[str, Any]:
    """The engine as a user runs it, with its own cluster, its tables published."""
    from engine import pipeline
    from engine.benchmarks.memory import PeakMemory

    watch = Watch()
    with PeakMemory() as memory:
        pipeline.run(config_of(request), watch)
        end = time.perf_counter()
    if watch.first is None:
        raise ContractError("benchmark: the run committed nothing; its output folder is not empty")
    times = end - watch.begun, end - watch.first
    return asdict(
        Ran(*times, watch.first_bytes, watch.bytes, watch.records, memory.peak, memory.driver, memory.workers),
    )


def loop(request: Mapping[str, Any]) -> dict[str, Any]:
    """A plain Python loop over the same shards around the same system class, one table written at the end."""
    from engine import sources
    from engine.benchmarks.memory import PeakMemory
    from engine.models.run import probe, system_of
    from engine.pipeline import plan, work
    from engine.storage import storage_for

    config = config_of(request)
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
        pq.write_table(rows, Path(config.output, f"{system.table}.parquet"), compression="zstd")
        seconds = time.perf_counter() - begun
    total = sum(shard.bytes for shard in shards)
    return asdict(Ran(seconds, seconds, 0, total, rows.num_rows, memory.peak, memory.driver, memory.workers))


def config_of(request: Mapping[str, Any]) -> Any:
    """The run that a request describes."""
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
