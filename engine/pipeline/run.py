"""A run from the driver's side: plan, claim the folder, code the shards without a receipt, publish, sum up."""

import logging
import threading
import time
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

from engine.errors import ContractError, TooManyFailures
from engine.models.base import System
from engine.models.rows import result_schema
from engine.models.run import system_of
from engine.pipeline import attempts, fingerprint, plan, published
from engine.pipeline.alive import SignOfLife
from engine.pipeline.commit import Receipt, commit_empty, receipts
from engine.pipeline.config import RunConfig
from engine.pipeline.events import event
from engine.pipeline.layout import Layout
from engine.pipeline.plan import Plan, Planned
from engine.pipeline.progress import FIRST, LOADING, PLANNING, PUBLISHING, STARTING, Progress, Standing
from engine.pipeline.publish import publish
from engine.pipeline.status import Summary, summary
from engine.pipeline.work import Job
from engine.storage import Storage, probe, s3_config, storage_for, use_s3


def run(config: RunConfig, progress: Progress | None = None) -> Summary:
    """Codes the input into the output folder, goes on where an earlier call stopped, or does nothing if all is done.

    Raises:
        ConfigError: a setting or the input is wrong, or the folder belongs to another run.
        RetryableError: something outside failed; the same call may succeed later.
        TooManyFailures: all is done and published, with a larger share of failed records than `max_failed`.
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
        # By now it is known whether the store supports conditional writes.
        storage, schema = storage_for(config.output), result_schema(system, planned.keep)
        manifests = published.manifests(storage, layout)
        for manifest in manifests:
            published.settle(storage, layout, manifest)
        used = published.used_receipts(storage, layout, manifests)
        received = receipts(storage, layout)
        done = {**received, **used}
        event("started", run_id=run_id, shards=len(planned.shards), done=len(done), files=len(planned.files))
        new = 0
        # A driver that died while it cleaned up left receipts of published shards, or its sign of life.
        left = received.keys() & used.keys() or next(iter(storage.list(layout.drivers)), None)
        if len(used) < len(planned.shards) or not manifests or left:
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

    All that can be refused is refused before anything is written, so that the corrected command finds the folder free.

    Raises:
        ConfigError: the input is wrong, or the folder belongs to another run or cannot be written.
        InputChanged: a planned file is gone or has changed.
    """
    layout = Layout(config.output)
    fingerprint.check(layout, settings)
    drafted = plan.draft(config, storage, layout)
    for note in drafted.notes:
        event("input", note=note)
        progress.note(note)
    # Refuses a kept column with the name of a result column.
    result_schema(system, drafted.keep)
    if not probe(config.output):
        event("no_conditional_put", logging.WARNING, advice="run only one driver at a time on this output")
        storage = storage_for(config.output)
    run_id = fingerprint.take(layout, settings, system.limits())
    return run_id, plan.store(config, storage, layout, drafted)


class _Driver:
    """One call's work on the shards, and the phase in which it waits."""

    def __init__(self, config: RunConfig, storage: Storage, layout: Layout, progress: Progress) -> None:
        self._config, self._storage, self._layout, self._progress = config, storage, layout, progress
        self._name = uuid.uuid4().hex
        self._todo: frozenset[str] = frozenset()
        self._waits: str | None = None
        self._turn = threading.Lock()

    def alive(self) -> SignOfLife:
        """The driver's sign of life, for a block."""
        return SignOfLife(self._storage, self._layout, self._name, self._look)

    def wait(self, what: str | None) -> None:
        """Sets the phase in which the driver waits from now on; None while shards come in."""
        with self._turn:
            self._waits = what
            if what is not None:
                self._progress.wait(what)

    def _look(self) -> str | None:
        """The current phase. Only the output folder shows that a model has begun to work."""
        if self._waits == LOADING and attempts.reached(self._storage, self._layout, attempts.MODEL, self._todo, self._name):
            with self._turn:
                if self._waits == LOADING:
                    self._waits = FIRST
                    self._progress.wait(FIRST)
        return self._waits

    def code(self, system: System, run_id: str, planned: Plan, done: dict[str, Receipt]) -> int:
        """Codes every shard without a receipt; returns the number of records that this took."""
        todo: list[Planned] = []
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
        # No more actors than shards, so that these share all threads.
        crew = replace(config.cluster, actors=min(config.cluster.actors, len(todo)))
        state = Standing(
            shards=len(done),
            shards_total=len(planned.shards),
            bytes=sum(receipt["bytes"] for receipt in done.values()),
            bytes_total=planned.bytes,
            records=sum(receipt["rows"] for receipt in done.values()),
            records_total=planned.rows,
            at_once=crew.actors,
        )
        before = state.records
        self._progress.start(state)
        self.wait(STARTING)
        # Ray takes seconds to import and to start; a finished run does without.
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
            # The input is listed and the output claimed, so what fails from here on may work later.
            s3=replace(s3_config(), proven=True),
        )
        with cluster.connected(config.cluster):
            self.wait(LOADING)
            ready = time.monotonic()
            for receipt in stages.receipts(todo, job, crew, cluster.model_environment(crew)):
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
    """Seconds from when the model began on a shard to its receipt.

    The difference of the two times includes work outside the stages, such as the start of a process that commits. But they are
    from two nodes' clocks, which may disagree: it counts as at least the stages' own time and at most `most`, the time since Ray
    started.
    """
    worked = sum(receipt["seconds"].get(stage, 0.0) for stage in ("model", "commit"))
    begun, ended = (datetime.fromisoformat(receipt[key]) for key in ("model_at", "at"))
    return min(most, max(worked, (ended - begun).total_seconds()))
