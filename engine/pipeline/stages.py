"""The three stages as Ray Data calls them, and the driver's loop over receipts.

    read and prepare (tasks)  ->  model (actors)  ->  commit (tasks)

No exception of a stage may reach Ray, which logs it with all that it quotes: every error becomes a parcel.
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
from engine.pipeline.cluster import gave_up
from engine.pipeline.commit import Receipt, commit
from engine.pipeline.config import ClusterConfig
from engine.pipeline.events import now
from engine.pipeline.isolate import code_isolated
from engine.pipeline.layout import Layout
from engine.pipeline.plan import Planned
from engine.pipeline.wire import Parcel
from engine.pipeline.work import Job, read_shard
from engine.storage import Storage, storage_for, use_s3

# Shards that go through Ray at a time: each one holds an object and a task in the driver.
WAVE = 5000
# Room for shards that wait between stages; without a limit reading would fill the object store. For every actor four of the
# largest shards, prepared to about eight times their text, and never less than this in all.
_AHEAD = 4 * 8
_LEAST_ROOM = 64 << 20


def read_stage(block: pa.Table, job: Job) -> pa.Table:
    """Reads and prepares. Leaves a shard that was lost twice to the model stage, which tries it in a child process."""
    return _each(block, lambda parcel: _read(parcel, job))


class ModelStage:
    """An actor that holds the system."""

    def __init__(self, job: Job) -> None:
        self._job = job
        use_s3(job.s3)
        # Loads the weights while the first shards are read. An error here comes again with the first shard, and is handled there.
        with contextlib.suppress(Exception):
            probe(system_of(job.model), job.keep_schema)

    def __call__(self, block: pa.Table) -> pa.Table:
        coded = _each(block, lambda parcel: _model(parcel, self._job))
        allocator.give_back()
        return coded


def commit_stage(block: pa.Table, job: Job) -> pa.Table:
    """Joins and writes the rows and the receipt; the receipt goes on to the driver."""
    return _each(block, lambda parcel: _commit(parcel, job))


def dataset(todo: Sequence[Planned], job: Job, cluster: ClusterConfig, environment: dict[str, str]) -> ray.data.Dataset:
    """The Ray Data plan for shards.

    Raises:
        ContractError: Ray would fuse stages, and preparing would no longer overlap with the model.
    """
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.execution_no_progress_timeout_s = cluster.stall_seconds
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    orders = [wire.order(item.name, json.dumps(sources.to_json(item.shard)), {"bytes": item.bytes}) for item in todo]
    # A shard is one row, and so is a block. With GPUs Ray wants a batch size.
    whole = {"batch_size": 1, "batch_format": "pyarrow"}
    # Ray Data spreads tasks over all nodes. Ray's own strategy fills nodes without a GPU first, and leaves the others to the
    # models.
    tasks = {"scheduling_strategy": "DEFAULT"} if cluster.gpus_per_actor else {}
    # Ray 2.60 warns about this argument and has no other for it.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", ray.util.annotations.RayDeprecationWarning)
    # Different remote arguments keep Ray from fusing reading with its neighbours.
    tasks_at_once = TaskPoolStrategy(min(cluster.readers, len(todo)))
    planned = (
        ray.data.from_items(orders, override_num_blocks=len(orders))
        .map_batches(
            read_stage,
            fn_kwargs={"job": job},
            compute=tasks_at_once,
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
            compute=tasks_at_once,
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
        EngineError: a shard could not be coded, and no record is to blame.
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
            raise gave_up(error) from None


def _each(block: pa.Table, work: Callable[[Parcel], Parcel]) -> pa.Table:
    """The parcels of a block after the work of a stage; those with an error stay as they are."""
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
    number = attempts.begin(storage, layout, parcel.shard, attempts.READ, job.driver, job.max_attempts)
    state, meta, prepared = wire.ISOLATE, None, None
    if not attempts.isolated(number):
        with contextlib.suppress(MemoryError):
            meta, prepared = prepare(system_of(job.model), read_shard(job, _shard(parcel)))
            state = wire.PREPARED
    return replace(parcel, state=state, facts=_with_cost(parcel, "read", start, number), meta=meta, body=prepared)


def _model(parcel: Parcel, job: Job) -> Parcel:
    start, at = time.perf_counter(), now()
    storage, layout = _output(job)
    number = attempts.begin(storage, layout, parcel.shard, attempts.MODEL, job.driver, job.max_attempts)
    isolate = parcel.state == wire.ISOLATE or attempts.isolated(number)
    if isolate:
        meta, answers = code_isolated(job, _shard(parcel))
    else:
        meta, answers = parcel.meta, answer(system_of(job.model), parcel.body, job.keep_schema)
    facts = {**_with_cost(parcel, "model", start, number), "isolated": isolate, "model_at": at}
    return replace(parcel, state=wire.CODED, plan=None, facts=facts, meta=meta, body=answers)


def _commit(parcel: Parcel, job: Job) -> Parcel:
    start = time.perf_counter()
    storage, layout = _output(job)
    table = finish(system_of(job.model), job.keep_schema, job.run_id, parcel.meta, parcel.body)
    facts = _with_cost(parcel, "commit", start)
    receipt = commit(storage, layout, parcel.shard, facts["attempts"]["model"], table, **facts)
    return replace(parcel, facts=receipt, meta=None, body=None)


def _output(job: Job) -> tuple[Storage, Layout]:
    """The run's folder, as this process reaches it."""
    use_s3(job.s3)
    return storage_for(job.output), Layout(job.output)


def _shard(parcel: Parcel) -> sources.Shard:
    return sources.from_json(json.loads(parcel.plan))


def _with_cost(parcel: Parcel, stage: str, start: float, attempt: int | None = None) -> dict[str, Any]:
    """The parcel's facts, with a stage's seconds since its start, and the number of its attempt."""
    facts = dict(parcel.facts)
    facts["seconds"] = {**facts.get("seconds", {}), stage: round(time.perf_counter() - start, 4)}
    if attempt is not None:
        facts["attempts"] = {**facts.get("attempts", {}), stage: attempt}
    return facts
