"""Processors and memory that this process may use, within the limits of its container or control group."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V2 = ""


def processors(root: Path = Path("/")) -> int:
    """Processors that this process may keep busy, at least 1: by its affinity and the whole quotas of its groups.

    Args:
        root: folder with `proc` and `sys`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [*_read(root, "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"), *_read(root, _V2, "cpu.max")]
    quotas = [int(quota) // int(period) for quota, period in limits if quota not in ("-1", "max")]
    return max(1, min([affinity, *quotas]))


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may have, used or free: the machine's, or the least limit of its groups.

    Args:
        root: folder with `proc` and `sys`.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_read(root, "memory", "memory.limit_in_bytes"), *_read(root, _V2, "memory.max")]
    return min([physical, *(int(limit) for (limit,) in limits if limit != "max")])


def shared_memory(folder: str = "/dev/shm") -> int | None:
    """Bytes free in shared memory; None if the machine has none."""
    if not os.path.isdir(folder):
        return None
    status = os.statvfs(folder)
    return status.f_bsize * status.f_bavail


def _read(root: Path, controller: str, *names: str) -> Iterator[list[str]]:
    """The words of these files, for the process's group of a controller and each group above it that has them."""
    for folder in _groups(root, controller):
        try:
            yield [word for name in names for word in (folder / name).read_text().split()]
        except OSError:
            # Not every group has every file, and groups above a container cannot be seen from within.
            continue


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's group and those above it, wherever they are mounted."""
    lines = (line.split(":", 2) for line in _lines(root / "proc/self/cgroup"))
    paths = [PurePosixPath(path) for _, names, path in lines if controller in names.split(",")]
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, kind = (part.split() for part in line.partition(" - "))
        if not (kind[0] == "cgroup2" if controller == _V2 else kind[0] == "cgroup" and controller in kind[-1].split(",")):
            continue
        for path in paths:
            # In a container its own group may be mounted as the top one.
            top, folder = PurePosixPath(mount[3]), root / mount[4].lstrip("/")
            below = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            yield from (folder / group for group in (below, *below.parents))


def _lines(path: Path) -> list[str]:
    """A file's lines; empty if there is no such file."""
    return path.read_text(errors="replace").splitlines() if path.exists() else []
