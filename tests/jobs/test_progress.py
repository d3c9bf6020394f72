"""Progress as people see it: counts of committed records, rate, time left."""

import io
import threading
import time

import pytest

from engine.pipeline import Standing
from jobs import _progress
from jobs._progress import Bar, Lines, duration, reporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def standing(shards: int, records: int, total: int | None = 400, since: float = 0.0, at_once: int = 1) -> Standing:
    """A run of 4 shards of 1,000 bytes."""
    return Standing(shards, 4, 1000 * shards, 4000, records, total, since, at_once)


def lines_of(clock: Clock) -> tuple[Lines, io.StringIO]:
    """Lines whose own thread never speaks: the test does it."""
    stream = io.StringIO()
    lines = Lines(stream, clock)
    lines._thread = threading.Thread(target=lambda: None)
    lines._thread.start()
    return lines, stream


def test_lines_come_every_ten_seconds_and_at_the_end() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)
    lines.start(standing(1, 100))
    clock.now += 5
    lines.update(standing(2, 200, since=5))
    clock.now += 15
    lines.update(standing(3, 300))
    clock.now += 1
    lines.update(standing(4, 400))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "working on 4 shards, 100 records done before",
        "300 of 400 records, 10.0/s, 10 s left",
        "400 of 400 records, 14.3/s",
    ]


def test_while_nothing_is_committed_a_line_every_ten_seconds_says_what_is_waited_for() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)

    def pass_(seconds: int) -> None:
        for _ in range(seconds):
            clock.now += 1
            lines.tick()

    lines.wait("looking through the input")
    clock.now += 0.5
    lines.tick()
    lines.start(standing(0, 0))
    lines.wait("starting Ray")
    pass_(3)
    lines.wait("loading the model")
    pass_(25)
    lines.update(standing(1, 100, since=4))
    pass_(21)
    lines.update(standing(2, 200, since=20))
    lines.wait("writing the tables")
    pass_(2)
    lines.close()
    assert stream.getvalue().splitlines() == [
        "working on 4 shards",
        "starting Ray",
        "loading the model",
        "loading the model: 11 s",
        "loading the model: 21 s",
        "100 of 400 records, 25.0/s, 12 s left",
        "100 of 400 records, 25.0/s, 2 s left, last shard 10 s ago",
        "100 of 400 records, 25.0/s, 0 s left, last shard 20 s ago",
        "writing the tables",
    ]


def test_start_up_counts_neither_in_the_rate_nor_in_the_time_left() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)
    lines.start(standing(0, 0))
    clock.now += 600
    lines.update(standing(1, 100, since=20))
    assert stream.getvalue().splitlines()[-1] == "100 of 400 records, 5.0/s, 1 min 00 s left"


def test_there_is_no_estimate_before_each_model_may_have_done_a_shard() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)
    lines.start(standing(0, 0, at_once=2))
    clock.now += 30
    lines.update(standing(1, 100, since=20, at_once=2))
    clock.now += 11
    lines.update(standing(2, 200, since=30, at_once=2))
    assert stream.getvalue().splitlines()[1:] == ["100 of 400 records", "200 of 400 records, 6.5/s, 31 s left"]


def test_time_left_goes_by_bytes_where_records_are_not_known() -> None:
    clock = Clock()
    lines, stream = lines_of(clock)
    lines.start(standing(0, 0, None))
    clock.now += 20
    lines.update(standing(1, 10, None, since=20))
    assert stream.getvalue().splitlines()[1] == "10 records, 0.5/s, 1 min 00 s left"


def test_lines_speak_by_themselves_until_they_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "_BRIEF", 0.01)
    stream = io.StringIO()
    lines = Lines(stream)
    lines.wait("starting Ray")
    end = time.monotonic() + 20
    while not stream.getvalue() and time.monotonic() < end:
        time.sleep(0.01)
    lines.close()
    assert stream.getvalue() == "starting Ray\n"
    assert not lines._thread.is_alive()


def test_a_line_that_nobody_reads_ends_the_thread_and_nothing_is_told_of_it(capfd: pytest.CaptureFixture) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lines = Lines(Closed())
    lines.wait("starting Ray")
    lines._thread.join(20)
    assert not lines._thread.is_alive()
    assert capfd.readouterr().err == ""
    with pytest.raises(BrokenPipeError):
        lines.note("meets it")


def test_a_terminal_gets_a_bar_and_anything_else_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(reporter(io.StringIO()), Lines)
    terminal = Terminal()
    bar = reporter(terminal)
    assert isinstance(bar, Bar)
    bar.wait("looking through the input")
    bar.note("2 files [left] out")
    bar.start(standing(1, 100))
    bar.wait("starting Ray")
    bar.update(standing(4, 400, since=3))
    bar.close()
    assert "2 files [left] out" in terminal.getvalue()
    assert "400 of 400 records, 100.0/s" in terminal.getvalue()


def test_what_stands_beside_the_bar_is_what_is_waited_for_then_counts_and_rate() -> None:
    clock = Clock()
    bar = Bar(io.StringIO(), clock)
    bar.wait("looking through the input")
    bar.start(standing(0, 0))
    bar.wait("starting Ray")
    clock.now += 70
    assert str(bar) == "starting Ray: 1 min 10 s"
    bar.update(standing(1, 100, since=20))
    assert str(bar) == "100 of 400 records, 5.0/s, 1 min 00 s left"
    bar.close()


def test_what_the_bars_own_thread_sees_at_the_first_shard_is_never_half_of_it() -> None:
    clock, seen = Clock(), []
    clock.now += 100_000
    bar = Bar(io.StringIO(), clock)
    bar.wait("starting Ray")
    bar.start(standing(0, 0))

    class Looked(_progress.Clock):
        def update(self, state: Standing) -> None:
            seen.append(str(bar))
            super().update(state)

    bar._clock.__class__ = Looked
    bar.update(standing(1, 100, since=20))
    assert seen == ["starting Ray: 0 s"]
    bar.close()


def test_before_the_first_shard_there_is_no_age_of_the_last() -> None:
    clock = Clock()
    clock.now += 100_000
    bar = Bar(io.StringIO(), clock)
    bar.wait("starting Ray")
    bar.start(standing(0, 0))
    bar._phase = None
    assert str(bar) == "0 of 400 records"
    bar.close()


def test_a_bar_that_never_started_can_be_closed() -> None:
    Bar(io.StringIO()).close()


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, message: str) -> None:
    assert duration(seconds) == message
