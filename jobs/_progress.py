"""Progress of a run on stderr: a bar on a terminal, elsewhere a plain line at least every ten seconds. It counts committed
records; while there are none it names the phase in which the run waits."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from engine.pipeline.progress import Progress, Standing

PLAIN_SECONDS = 10.0
# A shorter phase needs no line.
_BRIEF = 1.0


def reporter(stream: TextIO | None = None) -> "Progress":
    """A bar or plain lines, whichever suits the stream (stderr)."""
    stream = stream or _stderr()
    return Bar(stream) if stream.isatty() else Lines(stream)


def _stderr() -> TextIO:
    """A copy of stderr: the driver closes descriptor 2 while Ray starts."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except OSError:
        # The stand-in of a test has none.
        return sys.stderr
    return open(descriptor, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


class Clock:
    """Rate and time left, from when the model began to work: start-up and the work of earlier runs do not count.

    Both are as of the last commit. There are none before as many shards are done as are in work at the same time, since the first
    one says nothing about the others.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._first: Standing | None = None
        self._last: Standing | None = None
        self._start = self._at = 0.0

    def start(self, state: "Standing") -> None:
        self._first = self._last = state

    def update(self, state: "Standing") -> None:
        self._at = self._now()
        if self._last is self._first:
            self._start = self._at - state.since
        self._last = state

    @property
    def finished(self) -> bool:
        return self._last.shards == self._last.shards_total

    def rate(self) -> float | None:
        """Records per second."""
        shards, seconds = self._last.shards - self._first.shards, self._at - self._start
        if shards < max(1, self._first.at_once) or seconds <= 0:
            return None
        return (self._last.records - self._first.records) / seconds

    def seconds_left(self) -> float | None:
        """By bytes of text, which are known before reading in every format."""
        done = self._last.bytes - self._first.bytes
        if self.rate() is None or done <= 0:
            return None
        left = (self._at - self._start) * (self._last.bytes_total - self._last.bytes) / done
        return max(0.0, left - self._age())

    def line(self) -> str:
        """Counts, rate and time left; and the age of the last commit if it is old."""
        state, rate, left = self._last, self.rate(), self.seconds_left()
        total = "" if state.records_total is None else f" of {state.records_total:,}"
        words = [f"{state.records:,}{total} records"]
        if rate is not None:
            words.append(f"{rate:,.1f}/s")
        if left is not None and not self.finished:
            words.append(f"{duration(left)} left")
        if self._last is not self._first and self._age() >= PLAIN_SECONDS:
            words.append(f"last shard {duration(self._age())} ago")
        return ", ".join(words)

    def _age(self) -> float:
        """Seconds since the last commit."""
        return self._now() - self._at


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now, self._clock = stream, now, Clock(now)
        # The phase in which the run waits, whether a line has named it, since when, and when the last line came.
        self._phase: str | None = None
        self._named = False
        self._since = self._last_line = now()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, line: str) -> None:
        with self._lock:
            self._print(line)

    def wait(self, what: str) -> None:
        with self._lock:
            self._phase, self._named, self._since = what, False, self._now()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def start(self, state: "Standing") -> None:
        self._clock.start(state)
        already = f", {state.records:,} records done before" if state.records else ""
        self.note(f"working on {state.shards_total:,} shards{already}")

    def update(self, state: "Standing") -> None:
        with self._lock:
            waited, self._phase = self._phase is not None, None
            self._clock.update(state)
            if waited or self._now() - self._last_line >= PLAIN_SECONDS or self._clock.finished:
                self._print(self._clock.line())

    def tick(self) -> None:
        """Prints the line that is due while nothing happens, if any."""
        with self._lock:
            waited, due = self._now() - self._since, self._now() - self._last_line > PLAIN_SECONDS - _BRIEF
            if self._phase is None:
                if due:
                    self._print(self._clock.line())
            elif not self._named:
                if waited >= _BRIEF:
                    self._named = True
                    self._print(self._phase)
            elif due:
                self._print(f"{self._phase}: {duration(waited)}")

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BRIEF):
            try:
                self.tick()
            except OSError:
                # Nobody reads any more; the driver notices at its next line.
                return

    def _print(self, line: str) -> None:
        self._last_line = self._now()
        print(line, file=self._stream, flush=True)


class Bar:
    """A bar with rate and time left, for a person at a terminal. Its own thread redraws it several times a second."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now, self._clock = stream, now, Clock(now)
        self._bar: RichProgress | None = None
        self._task = None
        self._phase: str | None = None
        self._since = now()

    def __str__(self) -> str:
        """The text beside the bar."""
        phase = self._phase
        return self._clock.line() if phase is None else f"{phase}: {duration(self._now() - self._since)}"

    def note(self, line: str) -> None:
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def wait(self, what: str) -> None:
        self._since, self._phase = self._now(), what
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False), TimeElapsedColumn()
            # A run that has nothing to do leaves no bar behind.
            self._bar = Progress(*columns, console=Console(file=self._stream), transient=True)
            self._task = self._bar.add_task("", total=None, text=self)
            self._bar.start()

    def start(self, state: "Standing") -> None:
        self._clock.start(state)
        self._bar.live.transient = False
        self._bar.update(self._task, total=max(1, state.bytes_total), completed=state.bytes)

    def update(self, state: "Standing") -> None:
        # In this order, since the bar's thread may draw in between.
        self._clock.update(state)
        self._phase = None
        self._bar.update(self._task, completed=state.bytes)

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
