"""What every job that runs a system may set, key by key, and how it becomes the engine's own settings."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.machine import memory, processors
from engine.sources import InputConfig

if TYPE_CHECKING:
    from engine.pipeline import ClusterConfig

GIBI, KIBI = 1024**3, 1024


@dataclass(frozen=True)
class Input(InputConfig):
    text: str = key(InputConfig.text, "Column with the text of the report. Not used for text files.")


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the tables: a new one, or that of the run to continue.", path=True)
    memory_gb: float = key(1.0, "Memory for sorting when the tables are written, in GiB.", low=0.0625)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system; model=<name> sets it.")
    path: str = key("shipped", "Checkpoint folder, as jobs.train writes it; 'shipped' is the model that comes along.", path=True)


@dataclass
class Cluster:
    address: str | None = key(None, "A running Ray cluster, 'auto' or host:port; null starts Ray here and stops it afterwards.")
    actors: int | None = key(
        None,
        "Processes that hold the model, some 1.3 GiB each. One for each GPU; null is one, or without GPUs and RAY_ADDRESS one "
        "for each core of this machine as far as memory goes. With cluster.address it must be given.",
        low=1,
    )
    threads: int | None = key(None, "CPU threads of each actor; null shares out this machine's cores.", low=1)
    cpus_per_actor: float = key(0.5, "CPUs that Ray books for an actor; bookkeeping only, keep some free for reading.", low=0.0)
    gpus_per_actor: float = key(0.0, "GPUs of each actor; a part of one is allowed.", low=0.0)
    readers: int = key(2, "Tasks that read and tokenize at the same time.", low=1)
    cpus_per_reader: float = key(0.25, "CPUs that Ray books for a reader.", low=0.01)
    batch_tokens: int = key(4096, "Tokens in one forward pass, padding included.", low=128)
    object_store_gb: float | None = key(
        None, "Memory of Ray's object store, in GiB; null is what Ray takes, or what fits into /dev/shm.", low=0.1
    )
    child_memory_gb: float = key(8.0, "Memory of the process that retries a shard lost twice, in GiB.", low=0.25)
    max_attempts: int = key(10, "Tries of one shard before the run gives up with exit code 3.", low=3)
    stall_seconds: int = key(1800, "The run gives up with exit code 3 when nothing happens for so long.", low=60)
    shard_kb: int | None = key(None, "Text of one shard in KiB; null chooses by the size of the input.", low=1)


def sizes_of(cluster: Cluster, output: Output) -> dict[str, int | None]:
    """The size of a shard and the memory for sorting, in bytes, as `RunConfig` names them."""
    return {
        "shard_bytes": None if cluster.shard_kb is None else cluster.shard_kb * KIBI,
        "memory": int(output.memory_gb * GIBI),
    }


def runtime_of(cluster: Cluster) -> dict[str, Any]:
    """What a model is told that changes no value in a row."""
    return {
        "device": "cuda" if cluster.gpus_per_actor else "cpu",
        "threads": cluster.threads or 0,
        "batch_tokens": cluster.batch_tokens,
    }


def cluster_of(cluster: Cluster) -> "ClusterConfig":
    """The engine's settings of a cluster.

    Raises:
        ConfigError: only the user can know how many actors a running cluster has room for.
    """
    from engine.pipeline import ClusterConfig

    return ClusterConfig(
        address=cluster.address,
        actors=cluster.actors or _actors(cluster),
        threads=cluster.threads or 0,
        cpus_per_actor=cluster.cpus_per_actor,
        gpus_per_actor=cluster.gpus_per_actor,
        readers=cluster.readers,
        cpus_per_reader=cluster.cpus_per_reader,
        object_store_memory=None if cluster.object_store_gb is None else int(cluster.object_store_gb * GIBI),
        child_memory=int(cluster.child_memory_gb * GIBI),
        max_attempts=cluster.max_attempts,
        stall_seconds=cluster.stall_seconds,
    )


def _actors(cluster: Cluster) -> int:
    """Many actors of one thread keep the cores busier than one of many threads, which waits for its slowest (measured)."""
    if cluster.address:
        raise ConfigError(
            "cluster.actors: on a running cluster give their number: one for each GPU, or some fewer than the cores of all nodes"
        )
    if cluster.gpus_per_actor or cluster.threads or os.environ.get("RAY_ADDRESS"):
        return 1
    return max(1, min(processors(), memory() // (3 * GIBI)))
