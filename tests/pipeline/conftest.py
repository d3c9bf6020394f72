"""Small inputs, runs without Ray, and what every test of the guarantees asks afterwards."""

import json
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.models.base import ModelSpec
from engine.models.rows import result_schema
from engine.models.run import system_of
from engine.pipeline import ClusterConfig, RunConfig, fingerprint, plan, work
from engine.pipeline.commit import commit, commit_empty
from engine.pipeline.layout import Layout
from engine.pipeline.progress import Progress
from engine.pipeline.publish import publish
from engine.pipeline.run import begin
from engine.sources import InputConfig
from engine.storage import LocalStorage

MEBI = 2**20


def write_input(path: Path, texts: dict[str, str]) -> Path:
    """A JSONL file of id -> text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


def texts(count: int, start: int = 0) -> dict[str, str]:
    return {f"r{i:04d}": f"report number {i} " + "word " * (i % 7) for i in range(start, start + count)}


def config(path: Path, output: Path, **more) -> RunConfig:
    """A run of the toy system; `options`, `runtime` and `cluster` are taken apart, the rest is RunConfig's."""
    model = ModelSpec("tests.toys.plain", options=more.pop("options", {}), runtime=more.pop("runtime", {}))
    cluster = ClusterConfig(**{"child_memory_gb": 0.5, **more.pop("cluster", {})})
    return RunConfig(InputConfig(str(path), id="id"), model, str(output), cluster, **{"shard_bytes": 400, **more})


def rows(output: Path) -> list[dict]:
    """Every published row, by file."""
    return [row for path in sorted(Path(output, "codes").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def assert_once(output: Path, names: list[str], failed: dict[str, str] | None = None) -> None:
    """Every record has exactly one row, and none failed but those named, each with its kind."""
    found = rows(output)
    assert sorted(row["record_id"] for row in found) == sorted(names)
    assert {row["record_id"]: row["failure"]["kind"] for row in found if row["decision"] == "failed"} == (failed or {})


class Bench:
    """A run taken step by step, without Ray."""

    def __init__(self, settings: RunConfig, storage: LocalStorage | None = None) -> None:
        self.config, self.storage, self.layout = settings, storage or LocalStorage(), Layout(settings.output)
        self.system = system_of(settings.model)
        self.found = fingerprint.fingerprint(settings, self.system)
        self.run_id, self.plan = begin(settings, self.storage, self.system, self.found, Progress())
        self.schema = result_schema(self.system, self.plan.keep)
        keep = self.plan.keep.serialize().to_pybytes()
        cluster = settings.cluster
        self.job = work.Job(
            settings.input, settings.model, settings.output, self.run_id, keep, "d", cluster.max_attempts, cluster.child_memory
        )

    def code(self, attempt: int = 1) -> None:
        """Codes and commits every shard."""
        for planned in self.plan.shards:
            if planned.rows == 0:
                commit_empty(self.storage, self.layout, planned.name)
            else:
                self.commit(planned, attempt)

    def commit(self, planned: plan.PlannedShard, attempt: int = 1) -> dict:
        table = work.code(self.job, self.system, planned.shard)
        return commit(self.storage, self.layout, planned.name, attempt, table, bytes=planned.bytes)

    def publish(self) -> list[dict]:
        memory = self.config.memory
        return publish(self.storage, self.layout, self.run_id, self.system.table, self.schema, self.plan, memory)


class Faulty(LocalStorage):
    """Local storage whose n-th changing call raises, as a process that dies there would leave things."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.calls, self.at, self.error = 0, at, error

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise self.error

    def create(self, path: str, data: bytes) -> bool:
        self._count()
        return super().create(path, data)

    def link(self, source: str, target: str) -> bool:
        self._count()
        return super().link(source, target)

    def remove(self, path: str) -> None:
        # The writer's own clean-up is not a step of ours.
        if not posixpath.basename(path).startswith("."):
            self._count()
        super().remove(path)

    def remove_folder(self, folder: str) -> None:
        self._count()
        super().remove_folder(folder)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Builds a `Bench` over 30 texts; `names` replaces them."""

    def build(records: dict[str, str] | None = None, **more) -> Bench:
        write_input(tmp_path / "in" / "a.jsonl", texts(30) if records is None else records)
        return Bench(config(tmp_path / "in", tmp_path / "out", **more))

    return build


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a small Ray cluster that all tests and their drivers share; the test process is connected to it."""
    import ray

    # Workers find credentials in their node's environment, as on a real cluster.
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
    # Ray lets its workers stand back behind everything else on the machine, which a busy one turns into minutes.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (the name is Ray's)
    root = str(Path(__file__).resolve().parents[2])
    context = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=200 * MEBI,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    yield context.address_info["address"]
    ray.shutdown()
