"""The child process: codes records one at a time, and names each one before it begins.

`python -m engine.pipeline.child` reads an order as JSON on stdin and writes frames on stdout: a line of JSON with `kind` and
`size`, then that many bytes of Arrow. Nothing but frames leaves it.
"""

import json
import os
import resource
import sys
from typing import Any, BinaryIO


def main() -> None:
    frames = os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the frames, nor into a log.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    order = json.loads(sys.stdin.buffer.read())
    limit = order["job"]["child_memory"]
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        work(order, frames)
    except MemoryError:
        os._exit(1)
    except Exception as error:
        _fail(frames, error)


def work(order: dict[str, Any], frames: BinaryIO) -> None:
    """Codes the records of an order.

    Raises:
        MemoryError: outside any record.
    """
    from engine import sources
    from engine.models.run import answer, prepare, probe, system_of
    from engine.pipeline.work import Job, read_shard
    from engine.storage import use_s3

    job = Job.from_json(order["job"])
    use_s3(job.s3)
    system = system_of(job.model)
    # Loads the weights, so that no record is blamed for a memory limit that is too low for them.
    probe(system, job.keep_schema)
    _send(frames, "ready")
    records = read_shard(job, sources.from_json(order["shard"]))
    broken = records.filter(records["failure"].is_valid())["row"].to_pylist()
    _send(frames, "meta", records.drop_columns([job.input.reads]))
    skip = {*order["skip"], *broken}
    for row in range(records.num_rows) if order["only"] is None else [order["only"]]:
        if row in skip:
            continue
        _send(frames, "take", row=row)
        meta, prepared = prepare(system, records.slice(row, 1))
        failure = meta["failure"][0].as_py()
        if failure is None:
            _send(frames, "answer", answer(system, prepared, job.keep_schema))
        else:
            _send(frames, "failure", failure=failure)
    _send(frames, "done")


def _send(frames: BinaryIO, kind: str, table: Any = None, **facts: Any) -> None:
    from engine.pipeline.wire import to_bytes

    body = to_bytes(table)
    frames.write(json.dumps({"kind": kind, "size": body.size if body is not None else 0, **facts}).encode() + b"\n")
    if body is not None:
        frames.write(body)
    frames.flush()


def _fail(frames: BinaryIO, error: Exception) -> None:
    from engine.errors import EngineError, where

    is_ours = isinstance(error, EngineError)
    message = str(error) if is_ours else f"a child process raised {type(error).__name__} at {where(error)}"
    _send(frames, "error", **{"class": type(error).__name__ if is_ours else "ContractError", "message": message})


if __name__ == "__main__":
    main()
