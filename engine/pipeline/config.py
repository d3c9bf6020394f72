"""What the user decides about a run; plain values, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.sources import InputConfig
from engine.storage import Entry, S3Config

MEBI = 1024 * 1024


@dataclass(frozen=True)
class ClusterConfig:
    """Where the work runs. Nothing here changes a value in a row.

    `address` is a running Ray cluster's ("auto", "host:port"); None takes RAY_ADDRESS, or starts Ray on this machine and stops it
    afterwards. `actors` hold the model, each with `threads` CPU threads (0: this machine's cores shared out). Ray's logical CPUs
    are bookkeeping and not cores: an actor claims `cpus_per_actor` of them and a reader `cpus_per_reader`, little by default, so
    that reading never starves on a small machine. Where actors have GPUs, readers go to nodes without as long as these have CPUs.
    `child_memory` bounds, in bytes, the process in which a shard is tried after two lost attempts. `max_attempts` are the tries
    of one shard in one driver's life.
    """

    address: str | None = None
    actors: int = 1
    threads: int = 0
    cpus_per_actor: float = 0.5
    gpus_per_actor: float = 0.0
    readers: int = 2
    cpus_per_reader: float = 0.25
    object_store_memory: int | None = None
    child_memory: int = 8192 * MEBI
    max_attempts: int = 10
    stall_seconds: int = 1800

    def __post_init__(self) -> None:
        for name, least in (("actors", 1), ("threads", 0), ("readers", 1), ("max_attempts", 3), ("stall_seconds", 60)):
            if getattr(self, name) < least:
                raise ConfigError(f"cluster.{name}={getattr(self, name)}: must be at least {least}")
        for name in ("cpus_per_actor", "gpus_per_actor"):
            if getattr(self, name) < 0:
                raise ConfigError(f"cluster.{name}={getattr(self, name)}: must not be negative")
        if self.cpus_per_reader <= 0:
            raise ConfigError(f"cluster.cpus_per_reader={self.cpus_per_reader}: must be above 0")
        if self.child_memory < 256 * MEBI:
            raise ConfigError(f"cluster.child_memory={self.child_memory}: bytes, at least {256 * MEBI}")


@dataclass(frozen=True)
class RunConfig:
    """One run: what is read, what codes it, where the tables go.

    `files` are what is read of the input, as another run's plan names it; None lists what is there. `shard_bytes` is the text of
    one shard in bytes (None: chosen from the input's size and the number of actors, `usual_bytes` at most); `max_failed`
    the share of failed records, 0 to 1, above which a finished run ends with TooManyFailures; `memory` the bytes that publishing
    may use for its sorting.
    """

    input: InputConfig
    model: ModelSpec
    output: str
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    files: Sequence[Entry] | None = None
    shard_bytes: int | None = None
    usual_bytes: int = MEBI
    max_failed: float = 1.0
    memory: int = 1024 * MEBI
    s3: S3Config = field(default_factory=S3Config)

    def __post_init__(self) -> None:
        if not self.output:
            raise ConfigError("output.path is empty: name the folder for the tables")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ConfigError(f"shard_bytes={self.shard_bytes}: must be at least 1 (or null: chosen from the input)")
        if self.usual_bytes < 1:
            raise ConfigError(f"usual_bytes={self.usual_bytes}: must be at least 1")
        if not 0.0 <= self.max_failed <= 1.0:
            raise ConfigError(f"max_failed={self.max_failed}: must be a share between 0 and 1")
        if self.memory < 64 * MEBI:
            raise ConfigError(f"memory={self.memory}: bytes, at least {64 * MEBI}")
