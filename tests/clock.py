"""Processor time of a piece of work, for tests of how it grows with the size of a text."""

import gc
import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs, without the garbage collector, which would walk through all that earlier tests left in memory."""

    def once() -> float:
        gc.collect()
        gc.disable()
        try:
            began = time.process_time()
            work()
            return time.process_time() - began
        finally:
            gc.enable()

    return min(once(), once())
