"""Connects to Ray, or starts it here and stops it afterwards."""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from engine import local_ray
from engine.errors import ConfigError, RetryableError
from engine.machine import processors
from engine.pipeline import allocator
from engine.pipeline.config import ClusterConfig
from engine.pipeline.events import LOGGER

_ALL = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "TOKENIZERS_PARALLELISM": "false"}
# Where Ray's job server leaves the environment of a submitted job.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_PATIENCE = 20.0
# Ray does not start with less than half of this beside its object store; twice that, since free memory changes all the time.
_SCARCE = 2 * 10**8


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[None]:
    """Ray for the block; one that this process uses already is left as it is.

    Raises:
        ConfigError: no cluster at the address, or one that refuses us, or a machine too small for the actors or for Ray.
        RetryableError: Ray did not start in time.
    """
    if ray.is_initialized():
        _check_room(cluster, here=False)
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns on stderr about each actor that Ray Data makes.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = _address(cluster)
    if address:
        _check_address(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    local = {} if address else local_ray.arguments(cluster.object_store_memory)
    try:
        with _hushed():
            ray.init(address=address or "local", runtime_env={"env_vars": _environment()}, **quiet, **local)
    except Exception as error:
        with _hushed():
            ray.shutdown()
        raise not_started(error, address, local.get("object_store_memory")) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        _check_room(cluster, here=not address)
        yield
    finally:
        ray.shutdown()


def note(cluster: ClusterConfig) -> str | None:
    """A line for the user if `connected` would start a Ray that keeps texts on a disk; else None.

    Raises:
        ConfigError: as `connected`.
    """
    return None if ray.is_initialized() or _address(cluster) else local_ray.note(cluster.object_store_memory)


def model_environment(cluster: ClusterConfig) -> dict[str, str]:
    """Environment of a model actor: its CPU threads and its allocator."""
    threads = cluster.threads or max(1, processors() // cluster.actors)
    return {**_ALL, **allocator.ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}


def _environment() -> dict[str, str]:
    """The environment of every worker, without what a submitted job sets itself: Ray refuses a variable that both name."""
    job_sets = (json.loads(os.environ.get(_JOB, "{}")).get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in _ALL.items() if name not in job_sets}


def _address(cluster: ClusterConfig) -> str | None:
    """The address of a running cluster, or None to start Ray here."""
    named = None if cluster.address == "auto" else cluster.address
    address = named or os.environ.get("RAY_ADDRESS") or cluster.address
    return None if address == "local" else address


def _check_address(address: str) -> None:
    """ConfigError where nobody answers at an address; Ray itself would wait for minutes."""
    if "://" in address:
        raise ConfigError(
            f"cluster.address or RAY_ADDRESS is '{address}': give a Ray head's host:port; to a job server, send the command with "
            "`ray job submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        if address == "auto":
            return
        raise ConfigError(f"cluster.address or RAY_ADDRESS is '{address}': wants host:port, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError):
        raise ConfigError(f"cluster.address: no Ray cluster answers at '{address}'") from None


def not_started(error: Exception, address: str | None, object_store: int | None = None) -> Exception:
    """What to raise for an error of `ray.init`, which raises a bare Exception if it could not start in time.

    `object_store` is the size, in bytes, that a Ray on this machine was to give it; None is Ray's own choice.
    """
    name = type(error).__name__
    if address and isinstance(error, ray.exceptions.AuthenticationError):
        return ConfigError(
            f"the Ray cluster at '{address}' wants its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file with it"
        )
    if address and isinstance(error, ConnectionError):
        return ConfigError(f"cluster.address: no Ray cluster answers at '{address}'")
    if address and (isinstance(error, ValueError) or "ersion mismatch" in str(error)):
        return ConfigError(
            f"the Ray cluster at '{address}' refuses this command ({name}): the address must be its head's, and Ray and Python "
            "the same there as here"
        )
    if not address and isinstance(error, ValueError) and _scarce(object_store):
        # What it is asked for has been checked against the whole machine: others have the memory.
        return RetryableError(
            "Ray finds too little free memory on this machine; free some, or lower cluster.object_store_gb, and run the same "
            "command again"
        )
    if type(error) is Exception or isinstance(error, (OSError, RuntimeError, ray.exceptions.RayError)):
        where = f"Ray at '{address}' did not answer" if address else "Ray did not start on this machine"
        return RetryableError(f"{where} in time ({name}); when there is less load, run the same command again")
    return error


def _scarce(object_store: int | None) -> bool:
    """Whether too little free memory, counted as Ray counts it, keeps Ray from starting on this machine."""
    from ray._private.utils import estimate_available_memory

    return estimate_available_memory() - (object_store or 0) < _SCARCE


def ray_failure(error: Exception) -> RetryableError:
    """The error to raise where Ray fails after it has started."""
    return RetryableError(f"Ray gave up ({type(error).__name__}); look at the cluster, then run the same command again")


def _check_room(cluster: ClusterConfig, here: bool) -> None:
    """Checks that there are the GPUs for all actors, and the CPUs for them and a reader; else they would wait for ever.

    On this machine a lack is a mistake. A cluster may be about to grow, so there it is a warning.
    """
    total = ray.cluster_resources()
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    claims = cluster.actors * cluster.cpus_per_actor + cluster.cpus_per_reader
    if cluster.actors * cluster.gpus_per_actor > gpus:
        claim = f"cluster.actors={cluster.actors} with cluster.gpus_per_actor={cluster.gpus_per_actor:g}"
        lack, advice = f"{claim}, and Ray has {gpus:g} GPUs", "lower them, or take cluster=laptop to work without GPU"
    elif claims > cpus:
        lack = f"{cluster.actors} actors and one reader claim {claims:g} CPUs, and Ray has {cpus:g}"
        advice = "lower cluster.actors, cluster.cpus_per_actor or cluster.cpus_per_reader"
    else:
        return
    if here:
        raise ConfigError(f"{lack}: {advice}")
    LOGGER.warning("%s: waiting for more nodes; if none are to come, %s", lack, advice)


@contextmanager
def _hushed() -> Iterator[None]:
    """Closes stderr for the block: Ray's native part announces there that it will be quiet. Errors are raised as well."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
