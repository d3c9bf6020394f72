"""A whole run, timed and with its peak memory: by the engine, or by a plain loop. Each is called in a process of its own."""

import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine import pipeline, sources
from engine.errors import ContractError
from engine.models.run import probe, system_of
from engine.pipeline import Progress, RunConfig, Standing, plan, work
from engine.storage import storage_for


@dataclass(frozen=True)
class RunCost:
    """The cost of a run: `seconds` in all (of a loop, from the loaded model), `after_first` of them after the first receipt.

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


class _FirstShard(Progress):
    """Notes when the first shard was committed, and how large it was."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.bytes = self.bytes_total = self.records = 0

    def start(self, state: Standing) -> None:
        self.bytes_total = state.bytes_total

    def update(self, state: Standing) -> None:
        self.records = state.records
        if self.at is None:
            self.at, self.bytes = time.perf_counter(), state.bytes


def engine(config: RunConfig) -> RunCost:
    """The engine as a user runs it, with its own cluster, up to the published tables."""
    from engine.benchmarks.memory import PeakMemory

    start, first = time.perf_counter(), _FirstShard()
    with PeakMemory() as memory:
        pipeline.run(config, first)
        end = time.perf_counter()
    if first.at is None:
        raise ContractError("benchmark: the run committed nothing; its output folder is not empty")
    counts = (first.bytes, first.bytes_total, first.records)
    return RunCost(end - start, end - first.at, *counts, memory.peak, memory.driver, memory.workers)


def loop(config: RunConfig) -> RunCost:
    """A plain Python loop over the same shards around the same system class, which writes one table at the end."""
    from engine.benchmarks.memory import PeakMemory

    reader = storage_for(config.input.path)
    files = list(sources.list_files(config.input, reader))
    keep = pa.schema(sources.keep_fields(config.input, reader, files))
    shards = plan.cut(config, reader, files, sources.input_base(config.input))
    job = work.Job(config.input, config.model, config.output, "plain", keep.serialize().to_pybytes(), "plain", 1, 0)
    with PeakMemory() as memory:
        system = system_of(config.model)
        probe(system, keep)
        start = time.perf_counter()
        rows = pa.concat_tables([work.code(job, system, shard) for shard in shards])
        Path(config.output).mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, Path(config.output, f"{system.table}.parquet"), compression="zstd")
        seconds = time.perf_counter() - start
    total = sum(shard.bytes for shard in shards)
    return RunCost(seconds, seconds, 0, total, rows.num_rows, memory.peak, memory.driver, memory.workers)
