"""Work through Ray Data: in order, ahead of need, and nothing that is raised reaches a log."""

import threading
import time
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from engine.errors import ConfigError, ContractError
from engine.pipeline.flow import in_order, ray_runs

CANARY = "CANARYPHRASE"
pytestmark = pytest.mark.timeout(300)


def late(number):
    """The first is the last to be ready."""
    time.sleep(0.5 if number == 0 else 0)
    return pa.table({"number": [number] * 3})


def failing(number):
    if number == 1:
        raise ConfigError("data.path: no such file")
    if number == 2:
        raise ValueError(CANARY)
    return pa.table({"number": [number]})


def test_answers_come_in_order_of_endless_items_and_errors_as_what_they_are(cluster):
    assert ray_runs()
    found = in_order(count(), late)
    assert [next(found)["number"].to_pylist() for _ in range(5)] == [[n] * 3 for n in range(5)]
    found.close()
    with pytest.raises(ConfigError, match="no such file"):
        list(in_order([0, 1], failing))
    with pytest.raises(ContractError, match=r"training raised ValueError at test_flow\.py:\d+"):
        list(in_order([0, 2], failing))
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    for path in logs.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def slow(number):
    time.sleep(0.3)
    return pa.table({"number": [number]})


def test_what_is_closed_works_on_no_longer(cluster):
    found = in_order(count(), slow)
    next(found)
    found.close()
    # What Ray was told of would take it half a minute and more.
    deadline = time.monotonic() + 15
    while running := [thread.name for thread in threading.enumerate() if thread.name.startswith("StreamingExecutor")]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
