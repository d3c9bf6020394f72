"""Progress of a run on stderr: a bar on a terminal, a plain line every ten seconds elsewhere. It counts committed records."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from engine.pipeline.progress import Progress, Standing

PLAIN_SECONDS = 10.0


def reporter(stream: TextIO | None = None) -> "Progress":
    """What suits the stream (stderr): a bar, or plain lines."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


class Clock:
    """Rate and time left, from what was committed since the run began; earlier runs' work counts as done, not as speed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun = now()
        self._first: Standing | None = None

    def start(self, state: "Standing") -> None:
        self._first = state
        self._begun = self._now()

    def rate(self, state: "Standing") -> float:
        """Records a second; 0 while there is nothing to tell."""
        seconds = self._now() - self._begun
        return (state.records - self._first.records) / seconds if seconds > 0 else 0.0

    def seconds_left(self, state: "Standing") -> float | None:
        """By bytes of text, which are known for every format before reading; None while there is nothing to tell."""
        done = state.bytes - self._first.bytes
        if done <= 0:
            return None
        return (self._now() - self._begun) * max(0, state.bytes_total - state.bytes) / done


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._clock = Clock(now)
        self._last = 0.0

    def note(self, line: str) -> None:
        self._say(line)

    def start(self, state: "Standing") -> None:
        self._clock.start(state)
        self._last = self._now()
        already = f", {state.records:,} reports done before" if state.records else ""
        self._say(f"coding {state.shards_total:,} shards{already}")

    def update(self, state: "Standing") -> None:
        finished = state.shards == state.shards_total
        if self._now() - self._last < PLAIN_SECONDS and not finished:
            return
        self._last = self._now()
        self._say(", ".join([_counted(state), f"{self._clock.rate(state):,.1f}/s", _left(self._clock.seconds_left(state))]))

    def publish(self) -> None:
        self._say("writing the tables")

    def close(self) -> None: ...

    def _say(self, message: str) -> None:
        print(message, file=self._stream, flush=True)


class Bar:
    """A bar with rate and time left, for a person at a terminal."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = Clock(now)
        self._bar: RichProgress | None = None
        self._task = None

    def note(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def start(self, state: "Standing") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._clock.start(state)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(file=self._stream))
        self._task = self._bar.add_task("coding", total=max(1, state.bytes_total), told="starting")
        self._bar.start()
        self._bar.update(self._task, completed=state.bytes)

    def update(self, state: "Standing") -> None:
        told = f"{_counted(state)}  {self._clock.rate(state):,.1f}/s  {_left(self._clock.seconds_left(state))}"
        self._bar.update(self._task, completed=state.bytes, told=told)

    def publish(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description="writing")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """`4 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _counted(state: "Standing") -> str:
    return (
        f"{state.records:,} reports" if state.records_total is None else f"{state.records:,} of {state.records_total:,} reports"
    )


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"
