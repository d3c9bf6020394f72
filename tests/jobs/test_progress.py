"""Progress as people see it: counts of committed records, rate, time left."""

import io

import pytest

from engine.pipeline import Standing
from jobs._progress import Bar, Lines, duration, reporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def standing(shards: int, records: int, total: int | None = 400) -> Standing:
    """A run of 4 shards of 1,000 bytes."""
    return Standing(shards, 4, 1000 * shards, 4000, records, total)


def test_lines_come_every_ten_seconds_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.start(standing(1, 100))
    clock.now += 5
    lines.update(standing(2, 200))
    clock.now += 15
    lines.update(standing(3, 300))
    clock.now += 1
    lines.update(standing(4, 400))
    lines.publish()
    lines.close()
    assert stream.getvalue().splitlines() == [
        "coding 4 shards, 100 reports done before",
        "300 of 400 reports, 10.0/s, 10 s left",
        "400 of 400 reports, 14.3/s, 0 s left",
        "writing the tables",
    ]


def test_time_left_goes_by_bytes_where_records_are_not_known() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.start(standing(0, 0, None))
    clock.now += 20
    lines.update(standing(1, 10, None))
    assert stream.getvalue().splitlines()[1] == "10 reports, 0.5/s, 1 min 00 s left"


def test_a_terminal_gets_a_bar_and_anything_else_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(reporter(io.StringIO()), Lines)
    terminal = Terminal()
    bar = reporter(terminal)
    assert isinstance(bar, Bar)
    bar.start(standing(1, 100))
    bar.update(standing(4, 400))
    bar.publish()
    bar.close()
    assert "400 of 400 reports" in terminal.getvalue()


def test_a_bar_that_never_started_can_be_closed() -> None:
    bar = Bar(io.StringIO())
    bar.publish()
    bar.close()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
