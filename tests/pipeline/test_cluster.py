"""Several nodes, coming and going; and what is said when Ray cannot be had.

The nodes stand on this machine and share its disk. Their GPUs are declared, and nothing is behind them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import local_ray
from engine.errors import ConfigError, RetryableError
from engine.pipeline import ClusterConfig, cluster, status
from tests.pipeline.conftest import assert_once, texts, write_input
from tests.toys.nodes import ROOT, Nodes, nodes

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def head() -> Iterator[Nodes]:
    """A head that does no work; each test brings its own nodes and takes them away."""
    with nodes({"num_cpus": 0}) as found:
        yield found


def drive(tmp_path: Path, head: Nodes, **order) -> subprocess.Popen:
    order = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "shard_bytes": 400, **order}
    order["runtime"] = {"places": str(tmp_path / "places"), **order.get("runtime", {})}
    (tmp_path / "places").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toys.drive", json.dumps(order)],
        cwd=ROOT,
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    _, err = process.communicate(timeout=400)
    return process.returncode, err


def places(tmp_path: Path) -> tuple[set[tuple[int, str]], set[int]]:
    """Where models ran, as (node, GPUs), and on which nodes was read by others than models, which try themselves out."""
    notes = {path.name: path.read_text() for path in Path(tmp_path, "places").iterdir()}
    found = {name: json.loads(text) for name, text in notes.items() if text}
    models = {(place["node"], place["gpus"]) for name, place in found.items() if name.startswith("run-")}
    actors = {name.replace("run-", "prepare-") for name in found if name.startswith("run-")}
    readers = {place["node"] for name, place in found.items() if name.startswith("prepare-") and name not in actors}
    return models, readers


def wait_for(what: Callable[[], bool], driver: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while not what():
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_models_run_where_gpus_are_while_nodes_come_and_go(tmp_path, head):
    write_input(tmp_path / "in" / "a.jsonl", texts(90))
    gate = tmp_path / "gate"
    plain, old = head.add(num_cpus=2), head.add(num_cpus=2, num_gpus=2)
    driver = drive(tmp_path, head, cluster={"actors": 3, "gpus_per_actor": 1}, runtime={"gate": str(gate)})
    wait_for(lambda: bool(list(Path(tmp_path, "out").glob("_receipts/*.json"))), driver)
    new = head.add(num_cpus=2, num_gpus=1)
    wait_for(lambda: len(places(tmp_path)[0]) == 3, driver)
    models, readers = places(tmp_path)
    assert models == {(old, "0"), (old, "1"), (new, "0")}
    assert readers == {plain}
    # Now the old node's actors stand before the gate, each with a shard in hand.
    before = status(str(tmp_path / "out"))
    head.kill(old)
    gate.touch()
    code, err = ended(driver)
    for node in (plain, new):
        head.kill(node)
    assert code == 0, err
    assert 0 < before.shards < before.shards_total
    assert "Ray has 2 GPUs: waiting for more nodes" in err
    assert_once(tmp_path / "out", list(texts(90)))


def test_the_same_command_resumes_on_another_number_of_nodes(tmp_path, head):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    two = [head.add(num_cpus=1), head.add(num_cpus=1)]
    code, err = ended(drive(tmp_path, head, cluster={"actors": 2}, runtime={"pause": 0.1}, die="update:4"))
    assert code == -signal.SIGKILL, err
    assert 4 <= status(str(tmp_path / "out")).shards < status(str(tmp_path / "out")).shards_total
    assert {node for node, _ in places(tmp_path)[0]} == set(two)
    for node in two:
        head.kill(node)
    # Two CPUs in all: two actors and eight readers, and none of them waits for ever.
    one = head.add(num_cpus=2, num_gpus=2)
    code, err = ended(drive(tmp_path, head, cluster={"actors": 2, "gpus_per_actor": 1, "readers": 8}))
    head.kill(one)
    assert code == 0, err
    assert "waiting for more nodes" not in err
    assert_once(tmp_path / "out", list(texts(60)))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception, str | None], Exception]:
    """What becomes of an error of Ray's beginning, at an address or on this machine."""

    stopped: list[Exception] = []

    def ask(error: Exception, address: str | None = None) -> Exception:
        def fail(**_: object) -> None:
            raise error

        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
        monkeypatch.setattr(cluster.ray, "init", fail)
        # The Ray that other tests share stays.
        monkeypatch.setattr(cluster.ray, "shutdown", lambda: stopped.append(error))
        monkeypatch.setattr(cluster, "_check_address", lambda _: None)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with pytest.raises(Exception) as caught, cluster.connected(ClusterConfig(address=address)):
            pass
        assert stopped.pop() is error
        return caught.value

    return ask


def test_ray_that_cannot_start_in_time_is_worth_another_try(refused):
    # Ray says this with a bare Exception, and elsewhere with others.
    for error in (Exception("The current node timed out during startup."), TimeoutError(), RuntimeError(), ConnectionError()):
        message = refused(error)
        assert isinstance(message, RetryableError) and "\n" not in str(message)
        assert str(message).startswith(f"Ray did not start on this machine in time ({type(error).__name__})")
    for error in (Exception("No node info found"), RuntimeError("GCS")):
        assert str(refused(error, "head:1")).startswith("Ray at 'head:1' did not answer in time")


def test_memory_that_others_have_taken_is_worth_another_try(refused, monkeypatch):
    # Ray says so of what it is asked for, which has been held against the whole machine before.
    error = ValueError("the amount of memory on this node")
    monkeypatch.setattr("ray._private.utils.estimate_available_memory", lambda: 10**8)
    assert isinstance(refused(error), RetryableError)
    assert cluster.not_started(error, None, 10**9) is not error
    monkeypatch.setattr("ray._private.utils.estimate_available_memory", lambda: 10**9 + 10**8)
    assert isinstance(cluster.not_started(error, None, 10**9), RetryableError)


def test_where_memory_is_free_another_error_of_rays_is_not_told_as_a_lack_of_it(refused, monkeypatch):
    monkeypatch.setattr("ray._private.utils.estimate_available_memory", lambda: 10**10)
    error = ValueError("RAY_worker_niceness must be a number; no memory was harmed")
    assert refused(error) is error


def test_a_cluster_elsewhere_is_neither_warned_about_nor_started_with_anything_of_ours(monkeypatch):
    message: list[dict] = []
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", lambda **arguments: message.append(arguments))
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(cluster, "_check_address", lambda _: None)
    monkeypatch.setattr(local_ray, "shared_memory", lambda: 64 * 2**20)
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    there, here = ClusterConfig(address="head:1"), ClusterConfig()
    with cluster.connected(there):
        assert "RAY_worker_niceness" not in os.environ
    with cluster.connected(here):
        assert os.environ.pop("RAY_worker_niceness") == "0"
    ours = {"num_cpus", "object_store_memory", "include_dashboard"}
    assert [ours & arguments.keys() for arguments in message] == [set(), ours]
    assert cluster.note(there) is None and "/dev/shm has only 64 MiB free" in cluster.note(here)


def test_a_cluster_that_will_not_have_us_is_a_mistake_of_the_settings(refused):
    from ray.exceptions import AuthenticationError

    assert "wants its token" in str(refused(AuthenticationError("no"), "head:1"))
    for error in (AuthenticationError("no"), ConnectionError(), RuntimeError("Version mismatch: ..."), ValueError()):
        assert isinstance(refused(error, "head:1"), ConfigError)


def test_our_own_mistake_is_not_called_rays(refused):
    assert isinstance(refused(TypeError("no such argument")), TypeError)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"),
        ("http://127.0.0.1:8265", "with `ray job submit`"),
        ("ray://127.0.0.1:10001", "with `ray job submit`"),
        ("head", "wants host:port, or auto"),
    ],
)
def test_an_address_where_no_ray_is_takes_no_time(monkeypatch, address, message):
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=message.replace("`", ".")), cluster.connected(ClusterConfig(address=address)):
        pass
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("key", "environment", "expected"),
    [
        (None, None, None),
        (None, "head:1", "head:1"),
        ("auto", "head:1", "head:1"),
        ("auto", None, "auto"),
        ("other:1", "head:1", "other:1"),
        ("local", "head:1", None),
    ],
)
def test_the_key_goes_before_the_environment(monkeypatch, key, environment, expected):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    assert cluster._address(ClusterConfig(address=key)) == expected


def test_actors_that_find_no_room_on_this_machine_are_refused(monkeypatch, caplog):
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 2.0})
    for settings, message in (
        (ClusterConfig(gpus_per_actor=1), "cluster.actors=1 with cluster.gpus_per_actor=1, and Ray has 0 GPUs"),
        (ClusterConfig(actors=2, cpus_per_actor=1), "2 actors and one reader claim 2.25 CPUs, and Ray has 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            cluster._check_room(settings, here=True)
        # A cluster may be about to grow.
        cluster._check_room(settings, here=False)
        assert f"{message}: waiting for more nodes" in caplog.text
    cluster._check_room(ClusterConfig(actors=3), here=True)


def test_a_submitted_jobs_own_variables_are_left_alone(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    ours = cluster._environment()
    assert ours["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"env_vars": {"HF_HUB_OFFLINE": "0"}}}))
    assert cluster._environment() == {name: value for name, value in ours.items() if name != "HF_HUB_OFFLINE"}
