"""What Ray is started with here, and the mistakes that it would tell badly."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import local_ray
from engine.errors import ConfigError

MEBI, GIBI = 2**20, 2**30


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes it a machine of some GiB of memory, some bytes free in /dev/shm, with a folder for Ray."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(local_ray, "_check_folder", lambda: None)

    def build(shared: int | None, gibi: float = 16) -> None:
        monkeypatch.setattr(local_ray, "memory", lambda: int(gibi * GIBI))
        monkeypatch.setattr(local_ray, "shared_memory", lambda: shared)

    return build


def test_objects_lie_in_shared_memory_where_it_is_large_enough(has):
    # Ray takes less than a third of the memory by itself.
    has(8 * GIBI)
    assert (local_ray.arguments()["object_store_memory"], local_ray.note()) == (None, None)
    # It would go to the disk with all of it, where half of it had room.
    has(GIBI)
    assert (local_ray.arguments()["object_store_memory"], local_ray.note()) == (int(0.95 * GIBI), None)
    has(GIBI)
    assert (local_ray.arguments(500 * MEBI)["object_store_memory"], local_ray.note(500 * MEBI)) == (500 * MEBI, None)
    # Where there is no such thing, as on macOS, nothing can be done about it.
    has(None)
    assert (local_ray.arguments()["object_store_memory"], local_ray.note()) == (None, None)


def test_texts_on_a_disk_are_told_in_one_line_that_says_what_to_do(has, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    has(64 * MEBI)
    assert local_ray.arguments()["object_store_memory"] is None
    line = local_ray.note()
    assert line.startswith("/dev/shm has only 64 MiB free, so texts being processed are in an unnamed file in /scratch/ray")
    assert "--shm-size=1024m" in line and "RAY_TMPDIR" in line and "\n" not in line
    assert "--shm-size=3073m" in local_ray.note(3 * GIBI)


@pytest.mark.parametrize(("asked", "told"), [(400 * GIBI, "grants 16.0 GiB"), (16 * GIBI, "grants 16.0 GiB")])
def test_more_memory_than_the_machine_has_is_refused(has, asked, told):
    has(8 * GIBI)
    with pytest.raises(ConfigError, match=f"cluster.object_store_gb={asked // GIBI}: .*{told}") as error:
        local_ray.arguments(asked)
    assert "\n" not in str(error.value)


def test_more_shared_memory_than_there_is_is_refused_where_ray_refuses_it(has):
    has(8 * GIBI, 64)
    with pytest.raises(ConfigError, match=r"/dev/shm has 8.0 GiB free"):
        local_ray.arguments(10 * GIBI)
    assert local_ray.arguments(9 * GIBI)["object_store_memory"] == 9 * GIBI


@pytest.mark.parametrize("key", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_with_too_long_a_name_for_rays_sockets_is_refused_by_its_key(monkeypatch, tmp_path, key):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = "/tmp/" + "x" * 80
    monkeypatch.setenv(key, long)
    for ask in (local_ray.arguments, local_ray.note):
        with pytest.raises(ConfigError, match=rf"^{key}: .*set RAY_TMPDIR to one of at most \d\d bytes") as error:
            ask()
        assert "\n" not in str(error.value) and not os.path.exists(long)


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(local_ray, "_LONGEST", 1000)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"Ray cannot write to .*file/ray: set RAY_TMPDIR"):
        local_ray.arguments()


STARTED = """
import json, os
from {module} import {name} as start
import ray
# One processor for the one who starts Ray; Ray itself needs what there is, or a busy machine makes it late.
os.sched_getaffinity = lambda _: {{0}}

@ray.remote(num_cpus=0.1)
def niceness():
    return os.nice(0)

with start({arguments}):
    sockets = ray._private.worker._global_node.get_sockets_dir_path()
    print(json.dumps([os.nice(0), ray.get(niceness.remote()), ray.cluster_resources()["CPU"], len(sockets)]))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("engine.pipeline.cluster", "connected", "__import__('engine.pipeline.config').pipeline.config.ClusterConfig()"),
        ("engine.training.fit", "session", ""),
    ],
)
def test_ray_that_is_started_here_has_our_processors_our_priority_and_a_folder_that_fits(module, name, arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-c", STARTED.format(module=module, name=name, arguments=arguments)]
    for _ in range(8):
        # Behind the tests themselves, so that a priority that is nobody's would be seen.
        told = subprocess.run(
            command,
            cwd=Path(__file__).parents[1],
            env=environment,
            preexec_fn=lambda: os.nice(1),
            capture_output=True,
            text=True,
        )
        # Ray gives the start of its own processes 15 seconds, which a busy machine does not keep.
        if told.returncode == 0:
            break
    assert told.returncode == 0, told.stderr
    driver, worker, processors, sockets = json.loads(told.stdout.splitlines()[-1])
    assert (worker, processors) == (driver, 1)
    # What the longest name is reckoned from is what Ray really makes of it, but for the process's number.
    reckoned = len("/tmp/ray" + local_ray._SOCKET.removesuffix("/plasma_store"))
    assert reckoned - 6 <= sockets <= reckoned
