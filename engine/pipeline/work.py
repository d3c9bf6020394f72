"""One shard, from its slices to its rows, without Ray: what the stages and the child process do around the plain loop."""

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from engine import sources
from engine.errors import ContractError, EngineError, where
from engine.models.base import ModelSpec, System
from engine.models.rows import finish, keyed
from engine.models.run import answer, prepare
from engine.records import records_schema
from engine.sources import InputConfig, Shard
from engine.storage import S3Config, storage_for


@dataclass(frozen=True)
class Job:
    """All that a worker needs to code any shard of a run: plain values, the same for all shards."""

    input: InputConfig
    model: ModelSpec
    output: str
    run_id: str
    keep: bytes
    driver: str
    max_attempts: int
    child_memory: int
    s3: S3Config = field(default_factory=S3Config)

    @property
    def keep_schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(self.keep))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "keep": self.keep.hex()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Job":
        kinds = {"input": InputConfig, "model": ModelSpec, "s3": S3Config}
        nested = {name: kind(**values[name]) for name, kind in kinds.items()}
        return cls(**{**values, **nested, "keep": bytes.fromhex(values["keep"])})


def read_shard(job: Job, shard: Shard) -> pa.Table:
    """The records of a shard.

    Raises:
        InputChanged: a file is not as it was planned.
        ContractError: the source broke its promise; the message has no text of the input.
    """
    keep = job.keep_schema
    try:
        records = sources.read(job.input, storage_for(job.input.path), shard, list(keep))
    except (EngineError, MemoryError):
        raise
    except Exception as error:
        raise ContractError(f"reading a shard raised {type(error).__name__} at {where(error)}") from None
    if not records.schema.equals(records_schema(list(keep), job.input.reads)):
        raise ContractError("a source gave records of another schema")
    keyed(records, "read")
    return records


def code(job: Job, system: System, shard: Shard) -> pa.Table:
    """The rows of one shard: the plain loop around a system, against which the engine is measured."""
    meta, prepared = prepare(system, read_shard(job, shard))
    return finish(system, job.keep_schema, job.run_id, meta, answer(system, prepared, job.keep_schema))
