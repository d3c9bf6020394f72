"""What a container grants, told by a made-up machine: its files of groups and mounts below a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import machine

MEBI = 2**20
CPU, MEMORY = "fs/cgroup/cpu,cpuacct", "fs/cgroup/memory"
V1 = [
    f"30 25 0:26 TOP /sys/{CPU} rw - cgroup cgroup rw,cpu,cpuacct",
    f"31 25 0:27 TOP /sys/{MEMORY} rw - cgroup cgroup rw,memory",
]
V2 = ["30 25 0:26 TOP /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"]
NONE_V1, NONE_V2 = {"memory.limit_in_bytes": "9223372036854771712"}, {"cpu.max": "max 100000", "memory.max": "max"}


def quota(us: int) -> dict[str, str]:
    return {"cpu.cfs_quota_us": str(us), "cpu.cfs_period_us": "100000"}


# Groups of the process, what is mounted, the groups' files; then processors and MiB of memory, of 8 and 4096.
MACHINES = {
    "version 1, a container": (
        "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab",
        [line.replace("TOP", "/docker/ab") for line in V1],
        {CPU: quota(100_000), MEMORY: {"memory.limit_in_bytes": str(512 * MEBI)}},
        (1, 512),
    ),
    "version 1, the group above is the tighter one": (
        "4:memory:/jobs/one\n3:cpuacct,cpu:/jobs/one",
        [line.replace("TOP", "/") for line in V1],
        {
            CPU: quota(-1),
            f"{CPU}/jobs": quota(250_000),
            f"{CPU}/jobs/one": quota(600_000),
            f"{MEMORY}/jobs": {"memory.limit_in_bytes": str(700 * MEBI)},
            f"{MEMORY}/jobs/one": NONE_V1,
        },
        (2, 700),
    ),
    "version 1, no limit": (
        "4:memory:/\n3:cpu,cpuacct:/",
        [line.replace("TOP", "/") for line in V1],
        {CPU: quota(-1), MEMORY: NONE_V1},
        (8, 4096),
    ),
    "version 2, a container with a room of its own": (
        "0::/",
        [line.replace("TOP", "/") for line in V2],
        {"fs/cgroup": {"cpu.max": "300000 100000", "memory.max": str(1024 * MEBI)}},
        (3, 1024),
    ),
    "version 2, nested": (
        "0::/a.slice/b.service/c",
        [line.replace("TOP", "/") for line in V2],
        {
            "fs/cgroup/a.slice": {"cpu.max": "500000 100000", "memory.max": str(256 * MEBI)},
            "fs/cgroup/a.slice/b.service": {"cpu.max": "20000 10000", "memory.max": "max"},
            "fs/cgroup/a.slice/b.service/c": NONE_V2,
        },
        (2, 256),
    ),
    "version 2, less than one processor": (
        "0::/a",
        [line.replace("TOP", "/") for line in V2],
        {"fs/cgroup/a": {"cpu.max": "50000 100000", "memory.max": "max"}},
        (1, 4096),
    ),
    "version 2, no limit": (
        "0::/a",
        [line.replace("TOP", "/") for line in V2],
        {"fs/cgroup/a": NONE_V2},
        (8, 4096),
    ),
    "both versions, memory by the old one": (
        "4:memory:/a\n0::/a",
        [*(line.replace("TOP", "/") for line in V1), V2[0].replace("TOP", "/").replace("cgroup rw", "cgroup/unified rw")],
        {f"{MEMORY}/a": {"memory.limit_in_bytes": str(300 * MEBI)}, "fs/cgroup/unified/a": {"cpu.max": "100000 100000"}},
        (1, 300),
    ),
    "no groups at all": (None, [], {}, (8, 4096)),
}


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 processors and 4 GiB."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MEBI}.get)


@pytest.mark.parametrize("name", MACHINES)
def test_processors_and_memory_are_those_that_a_container_grants(tmp_path: Path, whole: None, name: str) -> None:
    groups, mounts, files, (processors, memory) = MACHINES[name]
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
        (tmp_path / "proc/self/mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda rw", *mounts]) + "\n")
    for folder, contents in files.items():
        for file, content in contents.items():
            (tmp_path / "sys" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "sys" / folder / file).write_text(content + "\n")
    assert (machine.processors(tmp_path), machine.memory(tmp_path) // MEBI) == (processors, memory)


def test_a_process_that_may_run_on_one_processor_has_one() -> None:
    asked = "import os; from engine.machine import processors; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    asked += "print(processors())"
    told = subprocess.run([sys.executable, "-c", asked], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("1\n", "")


def test_shared_memory_is_what_is_free_of_it(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert 0 < machine.shared_memory(str(tmp_path)) <= status.f_bsize * status.f_blocks
    assert machine.shared_memory(str(tmp_path / "shm")) is None
