"""The three stages as Ray Data calls them, and the driver's loop over receipts.

    read and prepare (tasks)  ->  model (actors)  ->  commit (tasks)

No exception of a stage may reach Ray, which would log the text that it may quote: every error becomes a parcel.
"""

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources, TaskPoolStrategy

from engine import sources
from engine.errors import ContractError, EngineError, where
from engine.models.rows import finish
from engine.models.run import answer, prepare, probe, system_of
from engine.pipeline import allocator, attempts, wire
from engine.pipeline.cluster import ray_failure
from engine.pipeline.commit import Receipt, commit
from engine.pipeline.config import ClusterConfig
from engine.pipeline.events import now
from engine.pipeline.isolate import code_isolated
from engine.pipeline.layout import Layout
from engine.pipeline.plan import PlannedShard
from engine.pipeline.wire import Parcel
from engine.pipeline.work import Job, read_shard
from engine.records import IMAGES
from engine.storage import Storage, storage_for, use_s3

# The largest number of shards in one Ray dataset: each takes an object and a task in the driver.
WAVE = 5000
# Object store memory for shards that wait between stages; without a limit, reading would fill the store. It holds this many of
# the largest shards for each actor, and at least `_MIN_MEMORY`.
_WAITING = 4
_MIN_MEMORY = 64 << 20
# A prepared shard is about this many times as large as its text, and a prepared image has a byte for each pixel of the model's,
# whatever the size of its file.
_MEMORY_PER_TEXT_BYTE = 8
_MEMORY_PER_IMAGE = 448 * 448


def read_stage(block: pa.Table, job: Job) -> pa.Table:
    """Reads and prepares shards. A shard that was lost twice passes unread: the model stage codes it in a child process."""
    return _apply(block, lambda parcel: _read(parcel, job))


class ModelStage:
    """An actor that holds the system."""

    def __init__(self, job: Job) -> None:
        self._job = job
        use_s3(job.s3)
        # Loads the weights while the first shards are read. An error here recurs with the first shard and is handled there.
        with contextlib.suppress(Exception):
            probe(system_of(job.model), job.keep_schema)

    def __call__(self, block: pa.Table) -> pa.Table:
        coded = _apply(block, lambda parcel: _model(parcel, self._job))
        allocator.give_back()
        return coded


def commit_stage(block: pa.Table, job: Job) -> pa.Table:
    """Joins the rows, writes them and the receipt, and passes the receipt on to the driver."""
    return _apply(block, lambda parcel: _commit(parcel, job))


def dataset(todo: Sequence[PlannedShard], job: Job, cluster: ClusterConfig, environment: dict[str, str]) -> ray.data.Dataset:
    """The Ray Data plan for shards.

    Raises:
        ContractError: Ray would fuse stages, and preparing would no longer overlap with the model.
    """
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.execution_no_progress_timeout_s = cluster.stall_seconds
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [wire.order(item.name, json.dumps(sources.to_json(item.shard)), {"bytes": item.bytes}) for item in todo]
    # A block is one row, which is one shard. With GPUs, Ray requires a batch size.
    one_shard = {"batch_size": 1, "batch_format": "pyarrow"}
    # Ray Data spreads tasks over all nodes. Ray's default strategy fills nodes without a GPU first, so that the nodes with GPUs
    # stay free for the models.
    task_options = {"scheduling_strategy": "DEFAULT"} if cluster.gpus_per_actor else {}
    # Ray 2.60 warns about this argument but offers no other way to set the strategy.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", ray.util.annotations.RayDeprecationWarning)
    # Ray does not fuse the stages, because their remote arguments differ.
    task_pool = TaskPoolStrategy(min(cluster.readers, len(todo)))
    planned = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(
            read_stage,
            fn_kwargs={"job": job},
            compute=task_pool,
            num_cpus=cluster.cpus_per_reader,
            **task_options,
            **one_shard,
        )
        .map_batches(
            ModelStage,
            fn_constructor_kwargs={"job": job},
            compute=ActorPoolStrategy(size=min(cluster.actors, len(todo))),
            num_cpus=cluster.cpus_per_actor,
            num_gpus=cluster.gpus_per_actor or None,
            runtime_env={"env_vars": environment},
            **one_shard,
        )
        .map_batches(
            commit_stage,
            fn_kwargs={"job": job},
            compute=task_pool,
            num_cpus=0.1,
            **task_options,
            **one_shard,
        )
    )
    memory = max(_MIN_MEMORY, _WAITING * cluster.actors * max(_prepared_bytes(item, job.input.reads) for item in todo))
    planned.context.execution_options.resource_limits = ExecutionResources(object_store_memory=memory)
    names = operators(planned)
    if len(names) != 3:
        raise ContractError(f"Ray planned {len(names)} operators for three stages: {names}")
    return planned


def _prepared_bytes(item: PlannedShard, reads: str) -> int:
    """About how many bytes a shard has once it is prepared."""
    if reads == IMAGES:
        return _MEMORY_PER_IMAGE * sum(len(piece.study.images) if piece.study else piece.rows for piece in item.shard.slices)
    return _MEMORY_PER_TEXT_BYTE * item.bytes


def operators(planned: ray.data.Dataset) -> list[str]:
    """Names of the physical operators that follow the input, in order."""
    from ray.data._internal.logical.optimizers import get_execution_plan

    node = get_execution_plan(planned._logical_plan)[0].dag
    names: list[str] = []
    while node.input_dependencies:
        names.append(node.name)
        node = node.input_dependencies[0]
    return names[::-1]


def receipts(todo: Sequence[PlannedShard], job: Job, cluster: ClusterConfig, environment: dict[str, str]) -> Iterator[Receipt]:
    """Codes the shards and yields their receipts as they come.

    Raises:
        EngineError: a shard could not be coded, for a reason other than one of its records.
    """
    for start in range(0, len(todo), WAVE):
        planned = dataset(todo[start : start + WAVE], job, cluster, environment)
        try:
            for batch in planned.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for parcel in wire.unpack(batch):
                    if parcel.state == wire.ERROR:
                        raise wire.error_of(parcel.facts)
                    yield parcel.facts
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise ray_failure(error) from None


def _apply(block: pa.Table, work: Callable[[Parcel], Parcel]) -> pa.Table:
    """Applies a stage's work to the parcels of a block; a parcel with an error stays as it is."""
    parcels = wire.unpack(block)
    for index, parcel in enumerate(parcels):
        try:
            if parcel.state != wire.ERROR:
                parcels[index] = work(parcel)
        except EngineError as error:
            parcels[index] = parcel.failed(error)
        except Exception as error:
            parcels[index] = parcel.failed(ContractError(f"shard {parcel.shard}: {type(error).__name__} at {where(error)}"))
    return wire.pack(parcels)


def _read(parcel: Parcel, job: Job) -> Parcel:
    start = time.perf_counter()
    storage, layout = _output(job)
    attempt = attempts.begin(storage, layout, parcel.shard, attempts.READ, job.driver, job.max_attempts)
    state, meta, prepared = wire.ISOLATE, None, None
    if not attempts.isolated(attempt):
        with contextlib.suppress(MemoryError):
            meta, prepared = prepare(system_of(job.model), read_shard(job, _shard(parcel)))
            state = wire.PREPARED
    return replace(parcel, state=state, facts=_with_cost(parcel, "read", start, attempt), meta=meta, body=prepared)


def _model(parcel: Parcel, job: Job) -> Parcel:
    start, at = time.perf_counter(), now()
    storage, layout = _output(job)
    attempt = attempts.begin(storage, layout, parcel.shard, attempts.MODEL, job.driver, job.max_attempts)
    isolate = parcel.state == wire.ISOLATE or attempts.isolated(attempt)
    if isolate:
        meta, answers = code_isolated(job, _shard(parcel))
    else:
        meta, answers = parcel.meta, answer(system_of(job.model), parcel.body, job.keep_schema)
    facts = {**_with_cost(parcel, "model", start, attempt), "isolated": isolate, "model_at": at}
    return replace(parcel, state=wire.CODED, plan=None, facts=facts, meta=meta, body=answers)


def _commit(parcel: Parcel, job: Job) -> Parcel:
    start = time.perf_counter()
    storage, layout = _output(job)
    table = finish(system_of(job.model), job.keep_schema, job.run_id, parcel.meta, parcel.body)
    facts = _with_cost(parcel, "commit", start)
    receipt = commit(storage, layout, parcel.shard, facts["attempts"]["model"], table, **facts)
    return replace(parcel, facts=receipt, meta=None, body=None)


def _output(job: Job) -> tuple[Storage, Layout]:
    """The storage of the output folder, opened in this process, and its layout."""
    use_s3(job.s3)
    return storage_for(job.output), Layout(job.output)


def _shard(parcel: Parcel) -> sources.Shard:
    return sources.from_json(json.loads(parcel.plan))


def _with_cost(parcel: Parcel, stage: str, start: float, attempt: int | None = None) -> dict[str, Any]:
    """The parcel's facts with a stage's time since `start`, in seconds, and the number of its attempt, if given."""
    facts = dict(parcel.facts)
    facts["seconds"] = {**facts.get("seconds", {}), stage: round(time.perf_counter() - start, 4)}
    if attempt is not None:
        facts["attempts"] = {**facts.get("attempts", {}), stage: attempt}
    return facts
