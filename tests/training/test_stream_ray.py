"""Windows of a training, read ahead by Ray Data."""

import pytest

from engine.pipeline.flow import in_order
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from engine.training.stream import Stream
from tests.training.test_stream import HELD, learner_of, settings

pytestmark = pytest.mark.timeout(300)
__all__ = ["settings"]


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
