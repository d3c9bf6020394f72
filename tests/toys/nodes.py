"""A Ray cluster of several nodes on this machine, in a process of its own: `python -m tests.toys.nodes '[{"num_cpus": 2}, ...]'`.

The first node is the head. One JSON line tells the address, the job server's and the nodes' process ids, which are their
workers' parents. Then a line on stdin adds a node (`{"add": {...}}`) or kills one without a word (`{"kill": 1}`), each answered
by another such line; when stdin ends, everything ends. Nothing of it depends on another Ray on this machine, or disturbs it.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Nodes:
    """The other end of such a process; `environment` is what a driver beside it wants."""

    def __init__(self, process: subprocess.Popen, environment: dict[str, str]) -> None:
        self._process = process
        self._told = self._answer()
        self.environment = {**environment, "RAY_ADDRESS": self.address}

    @property
    def address(self) -> str:
        return self._told["address"]

    @property
    def server(self) -> str:
        """Of the job server, if the head was started with one."""
        return "http://" + self._told["server"]

    @property
    def pids(self) -> list[int]:
        """Of the nodes as they were added; a worker's parent is its node."""
        return self._told["pids"]

    def add(self, **node: object) -> int:
        self._order({"add": node})
        return self.pids[-1]

    def kill(self, pid: int) -> None:
        self._order({"kill": self.pids.index(pid)})

    def _order(self, order: dict) -> None:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._told = self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nodes ended early; their words are above")
        return json.loads(line)


@contextlib.contextmanager
def nodes(*each: dict, environment: dict[str, str] | None = None) -> Iterator[Nodes]:
    """Nodes for the length of the block, in a short folder of their own, since socket names may not be long."""
    folder = tempfile.mkdtemp(prefix="ray")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**inherited, **ray_environment(folder), **(environment or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.toys.nodes", json.dumps(each)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Nodes(process, environment)
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def ray_environment(folder: str) -> dict[str, str]:
    """Ray's own switches: everything below the folder, no token, no standing back, and a dead node is noticed in seconds."""
    return {
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "PYTHONPATH": str(ROOT),
    }


def main(each: list[dict]) -> None:
    # Ray's processes inherit stdout and may speak there: what is told goes out by a copy that they do not have.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray._private import services
    from ray.cluster_utils import Cluster

    services.get_node = _patient(services.get_node)
    cluster = Cluster()
    started = [cluster.add_node(**{**_defaults(), **node}) for node in each]
    try:
        _tell(told, cluster, started)
        for line in sys.stdin:
            order = json.loads(line)
            if "add" in order:
                started.append(cluster.add_node(wait=False, **order["add"]))
            else:
                cluster.remove_node(started[order["kill"]], allow_graceful=False)
            _tell(told, cluster, started)
    finally:
        cluster.shutdown()


def _patient(call: Callable) -> Callable:
    """Ray gives a node half a minute to start, which a busy machine does not keep."""

    def ask(*arguments):
        end = time.monotonic() + 300
        while True:
            try:
                return call(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return ask


def _tell(told, cluster, started: list) -> None:
    pids = [node.all_processes["raylet"][0].process.pid if node.all_processes.get("raylet") else 0 for node in started]
    print(json.dumps({"address": cluster.address, "server": cluster.webui_url, "pids": pids}), file=told, flush=True)


def _defaults() -> dict:
    return {"include_dashboard": False, "dashboard_port": _free_port(), "dashboard_agent_listen_port": _free_port()}


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
