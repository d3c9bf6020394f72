"""The three stages as Ray Data calls them, and the driver's loop over receipts.

    read and prepare (tasks)  ->  model (actors)  ->  commit (tasks)

Nothing raised in a stage may reach Ray, which logs exceptions with all that they quote: every error becomes a parcel.
"""

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources, TaskPoolStrategy

from engine import sources
from engine.errors import ContractError, EngineError, RetryableError, where
from engine.models.rows import finish
from engine.models.run import answer, prepare, probe, system_of
from engine.pipeline import allocator, attempts, wire
from engine.pipeline.commit import Receipt, commit
from engine.pipeline.config import ClusterConfig
from engine.pipeline.isolate import code_isolated
from engine.pipeline.layout import Layout
from engine.pipeline.plan import Planned
from engine.pipeline.wire import Parcel
from engine.pipeline.work import Job, read_shard
from engine.storage import Storage, storage_for, use_s3

# More shards than this go through Ray in waves: each holds an object and a task in the driver.
WAVE = 5000
# Room for shards that wait between stages, or reading runs ahead until the object store is full: for every actor four of the
# largest, prepared to about eight times their text, and never less than this in all.
_AHEAD = 4 * 8
_LEAST_ROOM = 64 << 20


def read_stage(block: pa.Table, job: Job) -> pa.Table:
    """Reads and prepares; leaves a shard that was lost twice to the model stage, which tries it in a child process."""
    return _each(block, lambda parcel: _read(parcel, job))


class ModelStage:
    """An actor that holds the system."""

    def __init__(self, job: Job) -> None:
        self._job = job
        use_s3(job.s3)
        # Weights are loaded while the first shards are read. What fails here fails at the first shard too, and is told there.
        with contextlib.suppress(Exception):
            probe(system_of(job.model), job.keep_schema)

    def __call__(self, block: pa.Table) -> pa.Table:
        coded = _each(block, lambda parcel: _model(parcel, self._job))
        allocator.give_back()
        return coded


def commit_stage(block: pa.Table, job: Job) -> pa.Table:
    """Joins, writes the rows and the receipt; what goes on to the driver is the receipt."""
    return _each(block, lambda parcel: _commit(parcel, job))


def dataset(todo: Sequence[Planned], job: Job, cluster: ClusterConfig, environment: dict[str, str]) -> ray.data.Dataset:
    """The Ray Data plan for some shards.

    Raises:
        ContractError: Ray would fuse stages, and preparing would no longer overlap with the model.
    """
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.execution_no_progress_timeout_s = cluster.stall_seconds
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    orders = [wire.order(item.name, json.dumps(sources.to_json(item.shard)), {"bytes": item.bytes}) for item in todo]
    # A shard is one row, and so is a block. Ray wants the number said where there are GPUs.
    whole = {"batch_size": 1, "batch_format": "pyarrow"}
    # Ray Data deals tasks out to all nodes alike. Ray's own way fills nodes without GPU first, and leaves models the others.
    tasks = {"scheduling_strategy": "DEFAULT"} if cluster.gpus_per_actor else {}
    # Ray 2.60 warns about this argument and knows no other for it.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", ray.util.annotations.RayDeprecationWarning)
    # Unequal remote arguments are what keeps Ray from fusing reading into its neighbours.
    planned = (
        ray.data.from_items(orders, override_num_blocks=len(orders))
        .map_batches(
            read_stage,
            fn_kwargs={"job": job},
            compute=TaskPoolStrategy(min(cluster.readers, len(todo))),
            num_cpus=cluster.cpus_per_reader,
            **tasks,
            **whole,
        )
        .map_batches(
            ModelStage,
            fn_constructor_kwargs={"job": job},
            compute=ActorPoolStrategy(size=min(cluster.actors, len(todo))),
            num_cpus=cluster.cpus_per_actor,
            num_gpus=cluster.gpus_per_actor or None,
            runtime_env={"env_vars": environment},
            **whole,
        )
        .map_batches(
            commit_stage,
            fn_kwargs={"job": job},
            compute=TaskPoolStrategy(min(cluster.readers, len(todo))),
            num_cpus=0.1,
            **tasks,
            **whole,
        )
    )
    room = max(_LEAST_ROOM, _AHEAD * cluster.actors * max(item.bytes for item in todo))
    planned.context.execution_options.resource_limits = ExecutionResources(object_store_memory=room)
    names = operators(planned)
    if len(names) != 3:
        raise ContractError(f"Ray made {len(names)} operators of three stages: {names}")
    return planned


def operators(planned: ray.data.Dataset) -> list[str]:
    """Names of the physical operators behind the input, in order."""
    from ray.data._internal.logical.optimizers import get_execution_plan

    node = get_execution_plan(planned._logical_plan)[0].dag
    names: list[str] = []
    while node.input_dependencies:
        names.append(node.name)
        node = node.input_dependencies[0]
    return names[::-1]


def receipts(todo: Sequence[Planned], job: Job, cluster: ClusterConfig, environment: dict[str, str]) -> Iterator[Receipt]:
    """Codes the shards and yields their receipts as they come.

    Raises:
        EngineError: a shard could not be coded, for a reason that is no record's.
    """
    for start in range(0, len(todo), WAVE):
        for batch in _batches(dataset(todo[start : start + WAVE], job, cluster, environment)):
            for parcel in wire.unpack(batch):
                if parcel.state == wire.ERROR:
                    raise wire.error_of(parcel.facts)
                yield parcel.facts


def _batches(planned: ray.data.Dataset) -> Iterator[pa.Table]:
    """The dataset's blocks; what Ray itself gives up on is worth another try and told by name alone."""
    try:
        yield from planned.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise RetryableError(
            f"Ray gave up ({type(error).__name__}); look at the cluster, then run the same command again"
        ) from None


def _each(block: pa.Table, work: Callable[[Parcel], Parcel]) -> pa.Table:
    done = []
    for parcel in wire.unpack(block):
        if parcel.state == wire.ERROR:
            done.append(parcel)
            continue
        try:
            done.append(work(parcel))
        except EngineError as error:
            done.append(parcel.failed(error))
        except Exception as error:
            done.append(parcel.failed(ContractError(f"shard {parcel.shard}: {type(error).__name__} at {where(error)}")))
    return wire.pack(done)


def _read(parcel: Parcel, job: Job) -> Parcel:
    begun = time.perf_counter()
    storage, layout = _output(job)
    number = attempts.begin(storage, layout, parcel.shard, attempts.READ, job.driver, job.max_attempts)
    if attempts.isolated(number):
        return replace(parcel, state=wire.ISOLATE, facts=_took(parcel, "read", begun, number))
    try:
        records = read_shard(job, _shard(parcel))
        meta, prepared = prepare(system_of(job.model), records)
    except MemoryError:
        return replace(parcel, state=wire.ISOLATE, facts=_took(parcel, "read", begun, number))
    facts = _took(parcel, "read", begun, number)
    return replace(parcel, state=wire.PREPARED, facts=facts, meta=meta, body=prepared)


def _model(parcel: Parcel, job: Job) -> Parcel:
    begun, at = time.perf_counter(), datetime.now(UTC).isoformat(timespec="milliseconds")
    storage, layout = _output(job)
    number = attempts.begin(storage, layout, parcel.shard, attempts.MODEL, job.driver, job.max_attempts)
    isolate = parcel.state == wire.ISOLATE or attempts.isolated(number)
    if isolate:
        meta, answers = code_isolated(job, _shard(parcel))
    else:
        meta, answers = parcel.meta, answer(system_of(job.model), parcel.body, job.keep_schema)
    facts = {**_took(parcel, "model", begun, number), "isolated": isolate, "model_at": at}
    return replace(parcel, state=wire.CODED, plan=None, facts=facts, meta=meta, body=answers)


def _commit(parcel: Parcel, job: Job) -> Parcel:
    begun = time.perf_counter()
    storage, layout = _output(job)
    table = finish(system_of(job.model), job.keep_schema, job.run_id, parcel.meta, parcel.body)
    facts = _took(parcel, "commit", begun, None)
    receipt = commit(storage, layout, parcel.shard, facts["attempts"]["model"], table, **facts)
    return replace(parcel, facts=receipt, meta=None, body=None)


def _output(job: Job) -> tuple[Storage, Layout]:
    """The run's folder, as this process reaches it."""
    use_s3(job.s3)
    return storage_for(job.output), Layout(job.output)


def _shard(parcel: Parcel) -> sources.Shard:
    return sources.from_json(json.loads(parcel.plan))


def _took(parcel: Parcel, stage: str, begun: float, number: int | None) -> dict[str, Any]:
    facts = dict(parcel.facts)
    facts["seconds"] = {**facts.get("seconds", {}), stage: round(time.perf_counter() - begun, 4)}
    if number is not None:
        facts["attempts"] = {**facts.get("attempts", {}), stage: number}
    return facts
