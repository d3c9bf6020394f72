"""What this process may use of its machine: processors and memory, less where a container or a control group sets a limit."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V2 = ""


def processors(root: Path = Path("/")) -> int:
    """Processors that this process may keep busy, at least 1: those it may run on, and no more than its groups' whole quotas.

    Args:
        root: where `proc` and `sys` lie.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [*_read(root, "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"), *_read(root, _V2, "cpu.max")]
    quotas = [int(quota) // int(period) for quota, period in limits if quota not in ("-1", "max")]
    return max(1, min([affinity, *quotas]))


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may have, what is in use already included: the machine's, or its groups' least limit.

    Args:
        root: where `proc` and `sys` lie.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_read(root, "memory", "memory.limit_in_bytes"), *_read(root, _V2, "memory.max")]
    return min([physical, *(int(limit) for (limit,) in limits if limit != "max")])


def shared_memory(folder: str = "/dev/shm") -> int | None:
    """Bytes free in the file system of shared memory; None where there is none."""
    if not os.path.isdir(folder):
        return None
    status = os.statvfs(folder)
    return status.f_bsize * status.f_bavail


def _read(root: Path, controller: str, *names: str) -> Iterator[list[str]]:
    """The words of some files, for the process's own group of a controller and each group above it that has them."""
    for folder in _groups(root, controller):
        try:
            yield [word for name in names for word in (folder / name).read_text().split()]
        except OSError:
            # Not every group has every file, and what is above a container cannot be seen from within.
            continue


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's own group and of those above it, wherever they are mounted."""
    lines = (line.split(":", 2) for line in _lines(root / "proc/self/cgroup"))
    paths = [PurePosixPath(path) for _, names, path in lines if controller in names.split(",")]
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, kind = (part.split() for part in line.partition(" - "))
        if not (kind[0] == "cgroup2" if controller == _V2 else kind[0] == "cgroup" and controller in kind[-1].split(",")):
            continue
        for path in paths:
            # A container may see its own group mounted where the machine has the uppermost one.
            top, place = PurePosixPath(mount[3]), root / mount[4].lstrip("/")
            below = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            yield from (place / each for each in (below, *below.parents))


def _lines(path: Path) -> list[str]:
    """A file's lines; none where the system has no such file."""
    return path.read_text(errors="replace").splitlines() if path.exists() else []
