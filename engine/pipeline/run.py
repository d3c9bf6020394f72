"""The driver of a run: it plans, claims the output folder, codes the shards that have no receipt, publishes and sums up."""

import logging
import threading
import time
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.errors import ConfigError, ContractError, TooManyFailures
from engine.models.base import System
from engine.models.rows import result_schema
from engine.models.run import system_of
from engine.pipeline import attempts, fingerprint, plan, published
from engine.pipeline.alive import SignOfLife
from engine.pipeline.commit import Receipt, commit_empty, receipts
from engine.pipeline.config import RunConfig
from engine.pipeline.events import event
from engine.pipeline.layout import Layout
from engine.pipeline.plan import Plan, PlannedShard
from engine.pipeline.progress import FIRST, LOADING, PLANNING, PUBLISHING, STARTING, Progress, Standing
from engine.pipeline.publish import publish
from engine.pipeline.status import Summary, summary
from engine.pipeline.work import Job
from engine.storage import Storage, probe, s3_config, storage_for, use_s3


def run(config: RunConfig, progress: Progress | None = None) -> Summary:
    """Codes the input into the output folder. Resumes where an earlier call stopped; does nothing if all is done.

    Raises:
        ConfigError: a setting or the input is wrong, or the folder belongs to another run.
        RetryableError: something outside failed; the same call may succeed later.
        TooManyFailures: the run is published, but the share of failed records is above `max_failed`.
    """
    started = time.monotonic()
    progress = progress or Progress()
    try:
        progress.wait(PLANNING)
        use_s3(config.s3)
        storage, layout = storage_for(config.output), Layout(config.output)
        system = system_of(config.model)
        settings = fingerprint.fingerprint(config, system)
        run_id, planned = begin(config, storage, system, settings, progress)
        # Opened again: `begin` has found out whether the store supports conditional writes.
        storage, schema = storage_for(config.output), result_schema(system, planned.keep)
        manifests = published.manifests(storage, layout)
        for manifest in manifests:
            published.settle(storage, layout, manifest)
        used = published.used_receipts(storage, layout, manifests)
        received = receipts(storage, layout)
        done = {**received, **used}
        event("started", run_id=run_id, shards=len(planned.shards), done=len(done), files=len(planned.files))
        new = 0
        # What a driver leaves that died while cleaning up: receipts of published shards, or its sign of life.
        leftovers = received.keys() & used.keys() or next(iter(storage.list(layout.drivers)), None)
        if len(used) < len(planned.shards) or not manifests or leftovers:
            driver = _Driver(config, storage, layout, progress)
            with driver.alive():
                new = driver.code(system, run_id, planned, done)
                driver.wait(PUBLISHING)
                publish(storage, layout, run_id, system.table, schema, planned, config.memory, done)
    finally:
        progress.close()
    note = {"run_id": run_id, "settings": settings, "limits": system.limits()}
    result = summary(storage, layout, note, planned, new, started)
    # The books must balance: every record has one row with one decision, and every shard a receipt.
    if result.records != sum(result.decisions.values()):
        raise ContractError(f"{result.records} records, {sum(result.decisions.values())} decisions")
    if result.shards < result.shards_total:
        raise ContractError(f"{result.shards_total - result.shards} shards have no receipt")
    event("finished", run_id=run_id, records=result.records, decisions=result.decisions, seconds=round(result.seconds, 3))
    if result.failed_share > config.max_failed:
        raise TooManyFailures(
            f"{result.decisions['failed']} of {result.records} records failed, more than max_failed={config.max_failed} allows; "
            f"all rows are in {result.folder}"
        )
    return result


def begin(config: RunConfig, storage: Storage, system: System, settings: dict[str, Any], progress: Progress) -> tuple[str, Plan]:
    """Claims the output folder and stores the plan; returns the run's id and the plan. `settings` is the fingerprint.

    All checks come before the first write, so that the folder is still free for the corrected command.

    Raises:
        ConfigError: the input is wrong, or the folder belongs to another run or cannot be written.
        InputChanged: a planned file is gone or has changed.
    """
    layout = Layout(config.output)
    if system.reads != config.input.reads:
        raise ConfigError(f"model.system: {config.model.system} reads {system.reads}; the input is of {config.input.reads}")
    fingerprint.check(layout, settings)
    drafted = plan.draft(config, storage, layout)
    for note in drafted.notes:
        event("input", note=note)
        progress.note(note)
    # Fails if a kept column has the name of a result column.
    result_schema(system, drafted.keep)
    if not probe(config.output):
        event("no_conditional_put", logging.WARNING, advice="run only one driver at a time on this output")
        storage = storage_for(config.output)
    run_id = fingerprint.take(layout, settings, system.limits())
    return run_id, plan.store(config, storage, layout, drafted)


class _Driver:
    """Codes the shards of one call, and knows what the driver waits for."""

    def __init__(self, config: RunConfig, storage: Storage, layout: Layout, progress: Progress) -> None:
        self._config, self._storage, self._layout, self._progress = config, storage, layout, progress
        self._name = uuid.uuid4().hex
        self._todo: frozenset[str] = frozenset()
        self._waiting_for: str | None = None
        self._turn = threading.Lock()

    def alive(self) -> SignOfLife:
        """A context manager that writes the driver's sign of life."""
        return SignOfLife(self._storage, self._layout, self._name, self._look)

    def wait(self, phase: str | None) -> None:
        """Sets what the driver waits for from now on: a phase of `progress`, or None while shards come in."""
        with self._turn:
            self._waiting_for = phase
            if phase is not None:
                self._progress.wait(phase)

    def _look(self) -> str | None:
        """What the driver waits for. Loading ends when the output folder shows that a model has begun to work."""
        if self._waiting_for == LOADING and attempts.reached(self._storage, self._layout, attempts.MODEL, self._todo, self._name):
            with self._turn:
                if self._waiting_for == LOADING:
                    self._waiting_for = FIRST
                    self._progress.wait(FIRST)
        return self._waiting_for

    def code(self, system: System, run_id: str, planned: Plan, done: dict[str, Receipt]) -> int:
        """Codes every shard without a receipt; returns the number of records in them."""
        todo: list[PlannedShard] = []
        for shard in planned.shards:
            if shard.name in done:
                continue
            if shard.rows == 0:
                done[shard.name] = commit_empty(self._storage, self._layout, shard.name)
            else:
                todo.append(shard)
        if not todo:
            return 0
        config = self._config
        self._todo = frozenset(shard.name for shard in todo)
        # At most one actor per shard, so that the actors share all threads.
        cluster_config = replace(config.cluster, actors=min(config.cluster.actors, len(todo)))
        state = Standing(
            shards=len(done),
            shards_total=len(planned.shards),
            bytes=sum(receipt["bytes"] for receipt in done.values()),
            bytes_total=planned.bytes,
            records=sum(receipt["rows"] for receipt in done.values()),
            records_total=planned.rows,
            at_once=cluster_config.actors,
        )
        before = state.records
        self._progress.start(state)
        self.wait(STARTING)
        # Ray takes seconds to import and to start, and a finished run does not need it.
        from engine.pipeline import cluster, stages

        line = cluster.note(config.cluster)
        if line is not None:
            event("machine", note=line)
            self._progress.note(line)
        job = Job(
            input=config.input,
            model=config.model,
            output=config.output,
            run_id=run_id,
            keep=planned.keep.serialize().to_pybytes(),
            driver=self._name,
            max_attempts=config.cluster.max_attempts,
            child_memory=config.cluster.child_memory,
            # Proven: the input is listed and the output claimed, so a later failure may pass when it is retried.
            s3=replace(s3_config(), proven=True),
        )
        with cluster.connected(config.cluster):
            self.wait(LOADING)
            ready = time.monotonic()
            for receipt in stages.receipts(todo, job, cluster_config, cluster.model_environment(cluster_config)):
                self.wait(None)
                done[receipt["shard"]] = receipt
                state = replace(
                    state,
                    shards=len(done),
                    bytes=state.bytes + receipt["bytes"],
                    records=state.records + receipt["rows"],
                    since=_since(receipt, time.monotonic() - ready),
                )
                facts = {name: receipt[name] for name in ("shard", "attempt", "rows", "decisions", "seconds")}
                event("committed", run_id=run_id, **facts)
                self._progress.update(state)
        missing = [shard.name for shard in todo if shard.name not in done]
        if missing:
            raise ContractError(f"{len(missing)} shards came back without a receipt, {missing[0]} first")
        return state.records - before


def _since(receipt: Receipt, most: float) -> float:
    """Seconds from the start of the model's work on a shard to its receipt.

    The difference of the two times includes work outside the stages, such as starting the process that commits. The two clocks
    may be on different nodes and disagree, so the result is at least the time of the two stages and at most `most`, the seconds
    since Ray started.
    """
    worked = sum(receipt["seconds"].get(stage, 0.0) for stage in ("model", "commit"))
    begun, ended = (datetime.fromisoformat(receipt[key]) for key in ("model_at", "at"))
    return min(most, max(worked, (ended - begun).total_seconds()))
