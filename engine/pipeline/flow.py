"""Works on items through Ray Data: ahead of need, in order, in bounded memory.

No exception may reach Ray, which logs it with all that it quotes: an error comes back as a table of its own.
"""

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from itertools import islice
from typing import Any

import pyarrow as pa

from engine import errors
from engine.errors import ContractError, EngineError, where

# Items that are given to Ray at a time; starting it for the next ones takes a second or two.
_WAVE = 256
# Bytes of finished work that may wait for its reader.
_WAITING = 256 << 20
_ERROR = "_error"


def ray_runs() -> bool:
    """Whether this process can work through Ray."""
    # If Ray was started, it was imported; importing it here would take a second.
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def in_order(items: Iterable[Any], work: Callable[[Any], pa.Table], readers: int = 2) -> Generator[pa.Table]:
    """The result of `work` for each item, in order. `items` may be endless; close the generator, or Ray works on ahead.

    Raises:
        EngineError: what `work` raised. RetryableError: Ray gave up.
    """
    rest = iter(items)
    while wave := list(islice(rest, _WAVE)):
        with closing(_wave(wave, work, readers)) as tables:
            yield from tables


def _wave(items: list[Any], work: Callable[[Any], pa.Table], readers: int) -> Generator[pa.Table]:
    import ray
    from ray.data import ExecutionResources, TaskPoolStrategy

    from engine.pipeline.cluster import ray_failure

    numbers = ray.data.from_items([{"number": number} for number in range(len(items))], override_num_blocks=len(items))
    planned = numbers.map_batches(
        _each,
        fn_kwargs={"items": items, "work": work},
        compute=TaskPoolStrategy(min(readers, len(items))),
        num_cpus=0.1,
        batch_size=1,
        batch_format="pyarrow",
    )
    context = planned.context
    context.target_max_block_size = None
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=_WAITING)
    try:
        with closing(iter(planned.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))) as tables:
            for table in tables:
                if _ERROR in table.column_names:
                    raise getattr(errors, table[_ERROR][0].as_py())(table["message"][0].as_py())
                yield table
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise ray_failure(error) from None


def _each(block: pa.Table, items: list[Any], work: Callable[[Any], pa.Table]) -> pa.Table:
    (number,) = block["number"].to_pylist()
    try:
        return work(items[number])
    except EngineError as error:
        return pa.table({_ERROR: [type(error).__name__], "message": [str(error)]})
    except Exception as error:
        message = f"training raised {type(error).__name__} at {where(error)}"
        return pa.table({_ERROR: [ContractError.__name__], "message": [message]})
