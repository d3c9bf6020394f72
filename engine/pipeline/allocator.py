"""How the allocator of a model actor keeps memory and returns it."""

import ctypes
import sys

import pyarrow as pa

ENVIRONMENT = {
    # Freed memory stays with the process: otherwise the model's large scratch arrays cost one page fault a page in every layer.
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    # PyTorch and oneDNN cache what they prepared for the last 1,024 shapes of a product. Batches of reports hardly ever repeat a
    # shape, so these caches only grew, to the size of everything else, and saved no time.
    "LRU_CACHE_CAPACITY": "4",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}


def give_back() -> None:
    """Returns free memory to the system, once a shard: with `ENVIRONMENT` it would otherwise only grow."""
    pa.default_memory_pool().release_unused()
    # musl has no such call, and does not need it.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
