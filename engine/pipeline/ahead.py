"""Reading ahead: an object store takes a while for each file, however small it is."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

WORKERS = 8


def ahead(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The result of `call` for each item, in order; threads work on the next few items meanwhile."""
    pool = ThreadPoolExecutor(WORKERS)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
