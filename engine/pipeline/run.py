"""A run from the driver's side: plan, claim the folder, code what has no receipt, publish, sum up."""

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
    """Codes the input into the output folder, or goes on where an earlier call stopped, or does nothing if all is done.

    Raises:
        ConfigError: a setting or the input is wrong, or the folder is another run's.
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
        found = fingerprint.fingerprint(config, system)
        run_id, planned = begin(config, storage, system, found, progress)
        # What the store can do is known by now.
        storage, schema = storage_for(config.output), result_schema(system, planned.keep)
        known = published.manifests(storage, layout)
        for manifest in known:
            published.settle(storage, layout, manifest)
        folded = published.used_receipts(storage, layout, known)
        received = receipts(storage, layout)
        done = {**received, **folded}
        event("started", run_id=run_id, shards=len(planned.shards), done=len(done), files=len(planned.files))
        new = 0
        # Receipts of what is published, and signs of life, are what a driver left that died while it cleaned up.
        left = received.keys() & folded.keys() or next(iter(storage.list(layout.drivers)), None)
        if len(folded) < len(planned.shards) or not known or left:
            driver = _Driver(config, storage, layout, progress)
            with driver.alive():
                new = driver.code(system, run_id, planned, done)
                driver.wait(PUBLISHING)
                publish(storage, layout, run_id, system.table, schema, planned, config.memory, done)
    finally:
        progress.close()
    result = summary(storage, layout, {"run_id": run_id, "settings": found, "limits": system.limits()}, planned, new, started)
    _check(result)
    event("finished", run_id=run_id, records=result.records, decisions=result.decisions, seconds=round(result.seconds, 3))
    if result.failed_share > config.max_failed:
        raise TooManyFailures(
            f"{result.decisions['failed']} of {result.records} records failed, more than max_failed={config.max_failed} allows; "
            f"all rows are in {result.folder}"
        )
    return result


def begin(config: RunConfig, storage: Storage, system: System, found: dict[str, Any], progress: Progress) -> tuple[str, Plan]:
    """Claims the output folder and stores the plan; returns the run's id and the plan. `found` is the fingerprint.

    Everything that can be refused is refused before anything is written, so that the corrected command finds the folder free.

    Raises:
        ConfigError: the input is wrong, or the folder is another run's or cannot be written.
        InputChanged: a planned file is gone or is another one now.
    """
    layout = Layout(config.output)
    fingerprint.check(layout, found)
    drafted = plan.draft(config, storage, layout)
    for note in drafted.notes:
        event("input", note=note)
        progress.note(note)
    # This refuses a column to keep that has the name of a result column.
    result_schema(system, drafted.keep)
    if not probe(config.output):
        event("no_conditional_put", logging.WARNING, advice="run only one driver at a time on this output")
        storage = storage_for(config.output)
    run_id = fingerprint.take(layout, found, system.limits())
    return run_id, plan.store(config, storage, layout, drafted)


class _Driver:
    """One call's work on the shards, and what it waits for meanwhile."""

    def __init__(self, config: RunConfig, storage: Storage, layout: Layout, progress: Progress) -> None:
        self._config, self._storage, self._layout, self._progress = config, storage, layout, progress
        self._name = uuid.uuid4().hex
        self._todo: frozenset[str] = frozenset()
        self._waits: str | None = None
        self._turn = threading.Lock()

    def alive(self) -> SignOfLife:
        """The driver's sign of life, for the length of a block."""
        return SignOfLife(self._storage, self._layout, self._name, self._look)

    def wait(self, what: str | None) -> None:
        """Tells what is waited for from now on; None while shards come in."""
        with self._turn:
            self._waits = what
            if what is not None:
                self._progress.wait(what)

    def _look(self) -> str | None:
        """What is waited for. That a model has begun to work shows in the folder alone."""
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
        # No more than there is work for, so that these few have all threads.
        crew = replace(config.cluster, actors=min(config.cluster.actors, len(todo)))
        state = _standing(planned, done, crew.actors)
        self._progress.start(state)
        self.wait(STARTING)
        # Ray takes seconds to import and to start, which a finished run is spared.
        from engine.pipeline import cluster, stages

        line = cluster.note(config.cluster)
        if line is not None:
            event("machine", note=line)
            self._progress.note(line)
        records = 0
        job = Job(
            input=config.input,
            model=config.model,
            output=config.output,
            run_id=run_id,
            keep=planned.keep.serialize().to_pybytes(),
            driver=self._name,
            max_attempts=config.cluster.max_attempts,
            child_memory=config.cluster.child_memory,
            # The input was listed and the output claimed: what fails from here on may work later.
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
                records += receipt["rows"]
                facts = {k: receipt[k] for k in ("shard", "attempt", "rows", "decisions", "seconds")}
                event("committed", run_id=run_id, **facts)
                self._progress.update(state)
        missing = [shard.name for shard in todo if shard.name not in done]
        if missing:
            raise ContractError(f"{len(missing)} shards came back without a receipt, {missing[0]} first")
        return records


def _since(receipt: Receipt, most: float) -> float:
    """Seconds from when the model began on a shard to its receipt. By the times where they are plausible: work in between that is
    no stage's, such as the start of a process that commits, is in these alone.

    `most` are the seconds since Ray was there: the two times are of two nodes' clocks, which may not agree.
    """
    worked = sum(receipt["seconds"].get(stage, 0.0) for stage in ("model", "commit"))
    begun, ended = (datetime.fromisoformat(receipt[key]) for key in ("model_at", "at"))
    return min(most, max(worked, (ended - begun).total_seconds()))


def _standing(planned: Plan, done: dict[str, Receipt], at_once: int) -> Standing:
    return Standing(
        shards=len(done),
        shards_total=len(planned.shards),
        bytes=sum(receipt["bytes"] for receipt in done.values()),
        bytes_total=planned.bytes,
        records=sum(receipt["rows"] for receipt in done.values()),
        records_total=planned.rows,
        at_once=at_once,
    )


def _check(result: Summary) -> None:
    """The books must balance: every planned record, where the plan knows their number, has one row and one decision."""
    if result.records != sum(result.decisions.values()):
        raise ContractError(f"{result.records} records, {sum(result.decisions.values())} decisions")
    if result.shards < result.shards_total:
        raise ContractError(f"{result.shards_total - result.shards} shards have no receipt")
