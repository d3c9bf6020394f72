"""Codes a shard that was lost twice in a child process, record by record, to find a record that kills its process.

The child names each record before it begins. When it dies, that record is tried again alone in a fresh child; only if that one
dies too the record has failed. The other records go on in another child. A child that dies between records blames none.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa

from engine import sources
from engine.errors import RetryableError
from engine.models.rows import answers_schema
from engine.models.run import system_of
from engine.pipeline.wire import error_of, from_bytes
from engine.pipeline.work import Job
from engine.records import FAILURE, records_schema
from engine.sources import Shard

KILLED = {"kind": "killed_worker", "detail": "alone in a process of its own"}
# Deaths that no record is to blame for; more are the machine's fault, or the memory limit is too low for the model.
_PATIENCE = 3


@dataclass
class _Gathered:
    """The results of all children so far; answers and failures by the key of the record."""

    meta: pa.Table | None = None
    answers: dict[int, pa.Table] = field(default_factory=dict)
    failures: dict[int, dict] = field(default_factory=dict)

    @property
    def settled(self) -> list[int]:
        """Keys of the records that are done."""
        return [*self.answers, *self.failures]


@dataclass(frozen=True)
class _Death:
    """How a child died: `phase` is start, read, between or record; `row` is the record in hand."""

    phase: str
    row: int | None = None


def code_isolated(job: Job, shard: Shard) -> tuple[pa.Table, pa.Table]:
    """(meta, answers) of a shard, as `prepare` and `answer` of the plain loop return them.

    Raises:
        EngineError: what a child raised on purpose (a changed file).
        RetryableError: children die without a record in hand.
    """
    metas, answers, first = [], [], 0
    for meta, part in _readable(job, shard):
        # Keys are numbered within a part, and then through all of them.
        metas.append(_shift(meta, first))
        answers.append(_shift(part, first))
        first += meta.num_rows
    return pa.concat_tables(metas), pa.concat_tables(answers)


def _readable(job: Job, shard: Shard) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Codes the shard. If even reading it kills, codes its halves, down to a single slice, which then fails as one record."""
    gathered = _Gathered()
    if _code(job, shard, gathered):
        yield _tables(job, gathered)
    elif len(shard.slices) > 1:
        half = len(shard.slices) // 2
        for slices in (shard.slices[:half], shard.slices[half:]):
            yield from _readable(job, replace(shard, slices=slices))
    else:
        yield _lost_slice(job, shard)


def _code(job: Job, shard: Shard, gathered: _Gathered) -> bool:
    """Runs children until every record is done; False if reading kills them."""
    deaths = {"start": 0, "read": 0, "between": 0}
    while True:
        death = _child(job, shard, gathered, skip=gathered.settled)
        if death is None:
            return True
        if death.phase == "record":
            second = _child(job, shard, gathered, only=death.row)
            if second is not None and second.phase == "record":
                gathered.failures[death.row] = KILLED
                continue
            death = second
            if death is None:
                continue
        deaths[death.phase] += 1
        if death.phase == "read" and deaths["read"] == 2:
            return False
        if deaths[death.phase] > _PATIENCE:
            moment = "before it can code anything" if death.phase == "start" else "between records"
            raise RetryableError(
                f"a child process dies {moment}; raise cluster.child_memory_gb (now {job.child_memory / 2**30:g}), or free "
                "memory, and run the same command again"
            )


def _child(job: Job, shard: Shard, gathered: _Gathered, skip: Iterable[int] = (), only: int | None = None) -> _Death | None:
    """Runs one child over all records but `skip`, or over one; returns how it died, None if it did not."""
    order = {"job": job.to_json(), "shard": sources.to_json(shard), "skip": list(skip), "only": only}
    phase, row = "start", None
    with _process() as (orders, frames):
        # A child that has already died has closed its end; how it died shows below.
        with contextlib.suppress(BrokenPipeError):
            orders.write(json.dumps(order).encode())
            orders.close()
        for head, body in _frames(frames):
            kind = head["kind"]
            if kind == "ready":
                phase = "read"
            elif kind == "meta":
                phase, gathered.meta = "between", from_bytes(body)
            elif kind == "take":
                phase, row = "record", head["row"]
            elif kind == "answer":
                phase = "between"
                gathered.answers[row] = from_bytes(body)
            elif kind == "failure":
                phase = "between"
                gathered.failures[row] = head["failure"]
            elif kind == "error":
                raise error_of(head)
            elif kind == "done":
                return None
    return _Death(phase, row)


@contextlib.contextmanager
def _process() -> Iterator[tuple]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # Nobody reads its stderr: what a dying library prints may quote a record.
    command = [sys.executable, "-m", "engine.pipeline.child"]
    process = subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, env=environment)
    try:
        yield process.stdin, process.stdout
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _frames(stream) -> Iterator[tuple[dict, bytes]]:
    """The whole frames of a stream: a line of JSON with the length of the body that follows it."""
    while line := stream.readline():
        try:
            head = json.loads(line)
        except ValueError:
            return
        body = stream.read(head["size"])
        if len(body) < head["size"]:
            return
        yield head, body


def _tables(job: Job, gathered: _Gathered) -> tuple[pa.Table, pa.Table]:
    fields = system_of(job.model).fields()
    schema = answers_schema(fields)
    broken = {name: pa.nulls(len(gathered.failures), schema.field(name).type) for name in schema.names}
    broken["row"] = pa.array(list(gathered.failures), pa.int32())
    broken["failure"] = pa.array(list(gathered.failures.values()), FAILURE)
    return gathered.meta, pa.concat_tables([*gathered.answers.values(), pa.table(broken, schema=schema)])


def _lost_slice(job: Job, shard: Shard) -> tuple[pa.Table, pa.Table]:
    """One failed record in place of a slice that kills its readers, as for an unreadable file."""
    piece = shard.slices[0]
    keep = list(job.keep_schema)
    record = {
        "row": 0,
        "record_id": f"{piece.source}:{piece.position}",
        "source": piece.source,
        "position": piece.position,
        "failure": {"kind": "killed_worker", "detail": f"reading {piece.rows} records"},
        "keep": {field.name: None for field in keep},
    }
    schema = records_schema(keep, job.input.reads)
    meta = pa.Table.from_pylist([record], schema=schema.remove(schema.get_field_index(job.input.reads)))
    return meta, answers_schema(system_of(job.model).fields()).empty_table()


def _shift(table: pa.Table, first: int) -> pa.Table:
    rows = pa.array([row + first for row in table["row"].to_pylist()], pa.int32())
    return table.set_column(table.column_names.index("row"), table.schema.field("row"), rows)
