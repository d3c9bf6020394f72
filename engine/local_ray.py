"""How Ray is started on this machine: on the processors that we may use, at our own priority, its files where they may lie.

Nothing here imports Ray: whoever starts it asks for the arguments.
"""

import os
import sys
from typing import Any

from engine.errors import ConfigError
from engine.machine import memory, processors, shared_memory

MEBI, GIBI = 2**20, 2**30
# Ray takes this share of the memory for its object store, and not more than `_SLOW` where that is no shared memory.
_SHARE, _SLOW = 0.3, 10**10
# Ray wants so much left beside its object store.
_BESIDE = 10**8
# With less than this in shared memory a run would write its objects to the disk soon anyway.
_ENOUGH = 256 * MEBI
# What Ray puts below its folder, with the longest process id: `session_<date>_<time>_<microseconds>_<process id>/sockets/...`.
_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_LONGEST = 103 if sys.platform == "darwin" else 107


def arguments(object_store: int | None = None) -> dict[str, Any]:
    """Arguments of `ray.init`. What Ray reads from the environment only is set there.

    Args:
        object_store: bytes; None is Ray's own choice, or what fits into shared memory.
    Raises:
        ConfigError: Ray's folder cannot be had or has too long a name, or there is no such memory.
    """
    _check_folder()
    # Ray lets its workers stand back behind everything else on the machine, where they would starve.
    os.environ.setdefault("RAY_worker_niceness", "0")
    return {"num_cpus": processors(), "object_store_memory": _store(object_store), "include_dashboard": False}


def note(object_store: int | None = None) -> str | None:
    """A line for the user where shared memory is too small, and texts will lie on a disk; else None.

    Raises:
        ConfigError: as `arguments`.
    """
    _check_folder()
    free, size = shared_memory(), _store(object_store)
    if free is None or free >= (_wanted() if size is None else size):
        return None
    return (
        f"/dev/shm has only {free // MEBI} MiB free, so texts in work lie in a nameless file in {folder()} until the run ends: "
        f"give the container --shm-size={max(1024, (size or 0) // MEBI + 1)}m, or set RAY_TMPDIR to a folder on an encrypted disk"
    )


def folder() -> str:
    """Where Ray keeps its sessions."""
    temporary = os.environ.get("TMPDIR", "/tmp") if sys.platform == "linux" else "/tmp"
    return os.path.join(os.environ.get("RAY_TMPDIR", temporary), "ray")


def _check_folder() -> None:
    place = folder()
    key = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    room = _LONGEST - len(_SOCKET) - len("/ray")
    if len(os.fsencode(place)) + len(_SOCKET) > _LONGEST:
        raise ConfigError(
            f"{key}: Ray cannot work below a folder with so long a name; set RAY_TMPDIR to one of at most {room} bytes, "
            "such as a link to it"
        )
    try:
        os.makedirs(place, exist_ok=True)
        fits = os.access(place, os.W_OK | os.X_OK)
    except OSError:
        fits = False
    if not fits:
        raise ConfigError(f"Ray cannot write to {place}: set RAY_TMPDIR to a folder where it can")


def _store(asked: int | None) -> int | None:
    """Bytes of the object store; None is Ray's own choice."""
    free = shared_memory()
    if asked is None:
        fits = free is None or not _ENOUGH <= free < _wanted()
        return None if fits else int(0.95 * free)
    if asked > memory() - _BESIDE:
        raise ConfigError(f"cluster.object_store_gb={asked / GIBI:g}: this machine grants {memory() / GIBI:.1f} GiB; give less")
    if free is not None and asked > max(free, _SLOW):
        raise ConfigError(
            f"cluster.object_store_gb={asked / GIBI:g}: /dev/shm has {free / GIBI:.1f} GiB free; give less, or leave it out"
        )
    return asked


def _wanted() -> int:
    """The most that Ray chooses for its object store by itself where shared memory is short."""
    return min(int(_SHARE * memory()), _SLOW)
