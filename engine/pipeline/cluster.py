"""Connecting to Ray, or starting it here, and stopping only what was started."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from engine.errors import ConfigError
from engine.pipeline.config import ClusterConfig

# Freed memory stays with the process: the model's large scratch arrays otherwise cost a page fault a page, every layer.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
_ALL = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[None]:
    """Ray for the length of the block; one that runs in this process already is used and left alone.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns on stderr about each actor that Ray Data makes.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    local = {} if address else {"include_dashboard": False, "object_store_memory": cluster.object_store_memory}
    try:
        with _hushed():
            ray.init(address=address or "local", runtime_env={"env_vars": _ALL}, **quiet, **local)
    except ConnectionError:
        raise ConfigError(f"cluster.address: no Ray cluster answers at '{address}'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def model_environment(cluster: ClusterConfig) -> dict[str, str]:
    """Environment of a model actor: its CPU threads and its allocator."""
    threads = cluster.threads or max(1, (os.cpu_count() or 1) // cluster.actors)
    return {**_ALL, **_MALLOC, "OMP_NUM_THREADS": str(threads)}


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on stderr: Ray's native part says there that it was told to be quiet. What goes wrong is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
