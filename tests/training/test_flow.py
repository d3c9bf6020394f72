"""Windows of a training, read ahead by Ray Data."""

import threading
import time
from itertools import count

import pyarrow as pa
import pytest

from engine.errors import ConfigError, ContractError
from engine.training.flow import in_order, ray_runs
from engine.training.loop import LoopConfig, Worker, train
from engine.training.stream import Stream
from tests.training.test_stream import HELD, learner_of, settings

CANARY = "CANARYPHRASE"
pytestmark = pytest.mark.timeout(300)
__all__ = ["settings"]


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


def test_answers_come_in_order_of_endless_items_and_errors_as_what_they_are(session):
    assert ray_runs()
    found = in_order(count(), late)
    assert [next(found)["number"].to_pylist() for _ in range(5)] == [[n] * 3 for n in range(5)]
    found.close()
    with pytest.raises(ConfigError, match="no such file"):
        list(in_order([0, 1], failing))
    with pytest.raises(ContractError, match=r"training raised ValueError at test_flow\.py:\d+"):
        list(in_order([0, 2], failing))
    for path in (session / "logs").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_a_stream_through_ray_is_the_one_without(session, settings):
    plain, ahead = learner_of(settings).source, learner_of(settings).source
    assert isinstance(ahead, Stream) and ahead._flow is in_order
    plain._flow = lambda units, read: (read(unit) for unit in units)
    for epoch in (0, 1):
        order = plain.order(epoch, -1.0, 7)
        assert list(ahead.order(epoch, -1.0, 7)) == list(order)
        for start in range(0, len(order), 8):
            assert (
                ahead.hold(order[start : start + 8], epoch)[0].record_id
                == plain.hold(order[start : start + 8], epoch)[0].record_id
            )
            assert ahead.resident <= HELD
    ahead.close()


def slow(number):
    time.sleep(0.3)
    return pa.table({"number": [number]})


def test_what_is_closed_works_on_no_longer(session):
    found = in_order(count(), slow)
    next(found)
    found.close()
    # What Ray was told of would take it half a minute and more.
    deadline = time.monotonic() + 15
    while running := [thread.name for thread in threading.enumerate() if thread.name.startswith("StreamingExecutor")]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_a_training_that_ends_closes_its_stream(settings, tmp_path):
    found, ended = learner_of(settings), []

    def flow(units, read):
        try:
            yield from map(read, units)
        finally:
            ended.append(True)

    found.source._flow = flow
    train(found, LoopConfig(epochs=1, batch=8, stop_after=2), Worker(), tmp_path)
    assert ended == [True] and found.source.resident == 0
