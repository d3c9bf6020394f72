"""Progress of a run on stderr: a bar on a terminal, elsewhere a plain line at least every ten seconds. It counts committed
records, and says what is waited for while there are none."""

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
# What is over sooner needs no line.
_BRIEF = 1.0


def reporter(stream: TextIO | None = None) -> "Progress":
    """What suits the stream (stderr): a bar, or plain lines."""
    stream = stream or _stderr()
    return Bar(stream) if stream.isatty() else Lines(stream)


def _stderr() -> TextIO:
    """The place where stderr leads now: the driver closes descriptor 2 for the seconds that Ray starts in."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except OSError:
        # A test's stand-in has none.
        return sys.stderr
    return open(descriptor, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


class Clock:
    """Rate and time left, from when the model began to work: neither start-up nor earlier runs' work counts.

    Both are as they were at the last commit. There are none before as many shards are done as are worked on at the same time: the
    first one alone says nothing of the others.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._first: Standing | None = None
        self._last: Standing | None = None
        self._begun = self._at = 0.0

    def start(self, state: "Standing") -> None:
        self._first = self._last = state

    def update(self, state: "Standing") -> None:
        self._at = self._now()
        if self._last is self._first:
            self._begun = self._at - state.since
        self._last = state

    @property
    def finished(self) -> bool:
        return self._last.shards == self._last.shards_total

    def rate(self) -> float | None:
        """Records a second."""
        done, seconds = self._last.shards - self._first.shards, self._at - self._begun
        if done < max(1, self._first.at_once) or seconds <= 0:
            return None
        return (self._last.records - self._first.records) / seconds

    def seconds_left(self) -> float | None:
        """By bytes of text, which are known for every format before reading."""
        done = self._last.bytes - self._first.bytes
        if self.rate() is None or done <= 0:
            return None
        whole = (self._at - self._begun) * (self._last.bytes_total - self._last.bytes) / done
        return max(0.0, whole - self.silence())

    def silence(self) -> float:
        """Seconds since the last commit."""
        return self._now() - self._at

    def told(self) -> str:
        """Counts, rate and time left; and how old they are, if no shard has come in for a while."""
        state, rate, left = self._last, self.rate(), self.seconds_left()
        total = "" if state.records_total is None else f" of {state.records_total:,}"
        words = [f"{state.records:,}{total} reports"]
        if rate is not None:
            words.append(f"{rate:,.1f}/s")
        if left is not None and not self.finished:
            words.append(f"{duration(left)} left")
        if self._last is not self._first and self.silence() >= PLAIN_SECONDS:
            words.append(f"last shard {duration(self.silence())} ago")
        return ", ".join(words)


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._clock = Clock(now)
        self._waits: str | None = None
        self._named = False
        self._since = self._last = now()
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, line: str) -> None:
        with self._turn:
            self._say(line)

    def wait(self, what: str) -> None:
        with self._turn:
            self._waits, self._named, self._since = what, False, self._now()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def start(self, state: "Standing") -> None:
        self._clock.start(state)
        already = f", {state.records:,} reports done before" if state.records else ""
        self.note(f"coding {state.shards_total:,} shards{already}")

    def update(self, state: "Standing") -> None:
        with self._turn:
            waited, self._waits = self._waits is not None, None
            self._clock.update(state)
            if waited or self._silence() >= PLAIN_SECONDS or self._clock.finished:
                self._say(self._clock.told())

    def tick(self) -> None:
        """Says what there is to say while nothing happens."""
        with self._turn:
            waited, due = self._now() - self._since, self._silence() > PLAIN_SECONDS - _BRIEF
            if self._waits is None:
                if due:
                    self._say(self._clock.told())
            elif not self._named:
                if waited >= _BRIEF:
                    self._named = True
                    self._say(self._waits)
            elif due:
                self._say(f"{self._waits}: {duration(waited)}")

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BRIEF):
            try:
                self.tick()
            except OSError:
                # Nobody reads any more, as the driver itself finds at its next line.
                return

    def _silence(self) -> float:
        """Seconds since the last line."""
        return self._now() - self._last

    def _say(self, message: str) -> None:
        self._last = self._now()
        print(message, file=self._stream, flush=True)


class Bar:
    """A bar with rate and time left, for a person at a terminal. It draws itself anew several times a second."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._clock = Clock(now)
        self._bar: RichProgress | None = None
        self._task = None
        self._waits: str | None = None
        self._since = now()

    def __str__(self) -> str:
        """What stands beside the bar."""
        waits = self._waits
        return self._clock.told() if waits is None else f"{waits}: {duration(self._now() - self._since)}"

    def note(self, line: str) -> None:
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def wait(self, what: str) -> None:
        self._since, self._waits = self._now(), what
        if self._bar is None:
            self._open()

    def start(self, state: "Standing") -> None:
        self._clock.start(state)
        self._bar.live.transient = False
        self._bar.update(self._task, total=max(1, state.bytes_total), completed=state.bytes)

    def update(self, state: "Standing") -> None:
        # In this order: the bar's own thread may look in between.
        self._clock.update(state)
        self._waits = None
        self._bar.update(self._task, completed=state.bytes)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            BarColumn(bar_width=None),
            TextColumn("{task.fields[told]}", markup=False),
            TimeElapsedColumn(),
        )
        # A run that has nothing to do leaves no bar behind.
        self._bar = Progress(*columns, console=Console(file=self._stream), transient=True)
        self._task = self._bar.add_task("", total=None, told=self)
        self._bar.start()


def duration(seconds: float) -> str:
    """`4 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
