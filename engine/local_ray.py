"""How to start Ray on this machine: the processors we may use, our own priority, a folder that works.

Nothing here imports Ray; the caller starts it with these arguments.
"""

import os
import sys
from typing import Any

from engine.errors import ConfigError
from engine.machine import memory, processors, shared_memory

MEBI, GIBI = 2**20, 2**30
# Ray gives its object store this share of the memory, outside shared memory `_MOST` bytes at most, and leaves `_RESERVE` free.
_SHARE, _MOST, _RESERVE = 0.3, 10**10, 10**8
# With less shared memory than this a run would soon write its objects to disk anyway.
_ENOUGH = 256 * MEBI
# The longest path below Ray's folder: `session_<date>_<time>_<microseconds>_<process id>/sockets/...`.
_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_LONGEST = 103 if sys.platform == "darwin" else 107


def arguments(object_store: int | None = None) -> dict[str, Any]:
    """Arguments of `ray.init`; also sets what Ray reads only from the environment.

    Args:
        object_store: bytes; None is Ray's own choice, or what fits into shared memory.
    Raises:
        ConfigError: Ray's folder cannot be used or its name is too long, or the memory is not there.
    """
    _check_folder()
    # Ray's default priority for workers is so low that other work on the machine starves them.
    os.environ.setdefault("RAY_worker_niceness", "0")
    return {"num_cpus": processors(), "object_store_memory": _store(object_store), "include_dashboard": False}


def note(object_store: int | None = None) -> str | None:
    """A line for the user if shared memory is too small, so that texts will lie on a disk; else None.

    Raises:
        ConfigError: as `arguments`.
    """
    _check_folder()
    free, size = shared_memory(), _store(object_store)
    if free is None or free >= (_default_store() if size is None else size):
        return None
    return (
        f"/dev/shm has only {free // MEBI} MiB free, so texts being processed are in an unnamed file in {folder()} until the run "
        f"ends: give the container --shm-size={max(1024, (size or 0) // MEBI + 1)}m, or set RAY_TMPDIR to a folder on an "
        "encrypted disk"
    )


def folder() -> str:
    """Ray's folder for its sessions."""
    temporary = os.environ.get("TMPDIR", "/tmp") if sys.platform == "linux" else "/tmp"
    return os.path.join(os.environ.get("RAY_TMPDIR", temporary), "ray")


def _check_folder() -> None:
    path = folder()
    key = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    room = _LONGEST - len(_SOCKET) - len("/ray")
    if len(os.fsencode(path)) + len(_SOCKET) > _LONGEST:
        raise ConfigError(
            f"{key}: Ray cannot work below a folder with so long a name; set RAY_TMPDIR to one of at most {room} bytes, "
            "such as a link to it"
        )
    try:
        os.makedirs(path, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise ConfigError(f"Ray cannot write to {path}: set RAY_TMPDIR to a folder where it can")


def _store(size: int | None) -> int | None:
    """Bytes of the object store; None is Ray's own choice."""
    free = shared_memory()
    if size is None:
        return int(0.95 * free) if free is not None and _ENOUGH <= free < _default_store() else None
    key = f"cluster.object_store_gb={size / GIBI:g}"
    if size > memory() - _RESERVE:
        raise ConfigError(f"this machine grants {memory() / GIBI:.1f} GiB; give less", key)
    if free is not None and size > max(free, _MOST):
        raise ConfigError(f"/dev/shm has {free / GIBI:.1f} GiB free; give less, or leave it out", key)
    return size


def _default_store() -> int:
    """The most bytes that Ray itself chooses for its object store if shared memory is short."""
    return min(int(_SHARE * memory()), _MOST)
