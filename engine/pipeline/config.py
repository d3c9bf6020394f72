"""The settings of a run: plain values, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import ConfigError
from engine.keys import check_keys, key
from engine.models.base import ModelSpec
from engine.records import IMAGES, TEXT
from engine.sources import InputConfig
from engine.storage import Entry, S3Config

MEBI, GIBI = 2**20, 2**30
_USUAL_BYTES = {TEXT: MEBI, IMAGES: 64 * MEBI}


@dataclass(frozen=True)
class ClusterConfig:
    """Where the work runs. Nothing here changes a value in a row.

    Ray's logical CPUs are bookkeeping and not cores: actors and readers claim few of them by default, so that reading never
    starves on a small machine. Where actors have GPUs, readers go to nodes without, as long as these have CPUs.
    """

    address: str | None = key(
        None, "Running Ray cluster to use, as 'auto' or host:port; null starts Ray here and stops it afterwards."
    )
    actors: int = key(1, "Processes that hold the model.", low=1)
    threads: int | None = key(None, "CPU threads of each actor; null divides this machine's cores among the actors.", low=1)
    cpus_per_actor: float = key(
        0.5, "CPUs that Ray reserves for an actor. This does not limit the actor; leave some CPUs for the readers.", low=0.0
    )
    gpus_per_actor: float = key(0.0, "GPUs of each actor; a fraction of one is allowed.", low=0.0)
    readers: int = key(2, "Tasks that read and tokenize at the same time.", low=1)
    cpus_per_reader: float = key(0.25, "CPUs that Ray reserves for a reader.", low=0.01)
    object_store_gb: float | None = key(
        None, "Memory of Ray's object store, in GiB; null leaves it to Ray, limited to what fits into /dev/shm.", low=0.1
    )
    child_memory_gb: float = key(
        8.0, "Memory limit, in GiB, of the separate process that retries a shard after two failed attempts.", low=0.25
    )
    max_attempts: int = key(10, "Attempts at one shard before the command gives up with exit code 3.", low=3)
    stall_seconds: int = key(1800, "Seconds without any progress after which the run gives up with exit code 3.", low=60)

    def __post_init__(self) -> None:
        check_keys(self, "cluster.")

    @property
    def object_store_memory(self) -> int | None:
        """Bytes."""
        return None if self.object_store_gb is None else int(self.object_store_gb * GIBI)

    @property
    def child_memory(self) -> int:
        """Bytes."""
        return int(self.child_memory_gb * GIBI)


@dataclass(frozen=True)
class RunConfig:
    """One run: what is read, which model codes it, where the tables go.

    `files` are the input's files as another run's plan names them; None lists what is there. `shard_bytes` is the text or the
    images of one shard in bytes; None chooses it by the input's size and the number of actors, at most `usual_bytes`, by default
    1 MiB of text or 64 MiB of images. A finished run with a larger share of failed records than `max_failed` ends with
    TooManyFailures. Publishing may use `memory` bytes to sort.
    """

    input: InputConfig
    model: ModelSpec
    output: str
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    files: Sequence[Entry] | None = None
    shard_bytes: int | None = None
    usual_bytes: int | None = None
    max_failed: float = 1.0
    memory: int = 1024 * MEBI
    s3: S3Config = field(default_factory=S3Config)

    def __post_init__(self) -> None:
        if not self.output:
            raise ConfigError("output.path is empty: name the folder for the tables")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ConfigError(f"shard_bytes={self.shard_bytes}: must be at least 1 (null chooses it by the input)")
        if self.usual_bytes is None:
            object.__setattr__(self, "usual_bytes", _USUAL_BYTES[self.input.reads])
        if self.usual_bytes < 1:
            raise ConfigError(f"usual_bytes={self.usual_bytes}: must be at least 1")
        if not 0.0 <= self.max_failed <= 1.0:
            raise ConfigError(f"max_failed={self.max_failed}: must be a share between 0 and 1")
        if self.memory < 64 * MEBI:
            raise ConfigError(f"memory={self.memory}: bytes, at least {64 * MEBI}")
