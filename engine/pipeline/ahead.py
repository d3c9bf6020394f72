"""Reading ahead: on an object store each file takes a while to come, however small it is."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

WORKERS = 8


def ahead(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `call` gives for each item, in order; a few are under way in threads while one is in hand."""
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
