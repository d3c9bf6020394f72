"""How a model actor's memory is kept and given back."""

import ctypes
import sys

import pyarrow as pa

ENVIRONMENT = {
    # Freed memory stays with the process: the model's large scratch arrays otherwise cost a page fault a page, every layer.
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    # PyTorch and oneDNN each keep what they prepared for the last 1,024 shapes of a product. Batches of reports hardly ever have
    # a shape twice, so that only grew, to the size of everything else, and saved no time.
    "LRU_CACHE_CAPACITY": "4",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}


def give_back() -> None:
    """Returns what is free to the system, once a shard: what `ENVIRONMENT` keeps would else only ever grow."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        # musl has no such call, and no such hoard.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
