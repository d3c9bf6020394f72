"""stdin, stdout and stderr of a job: closed from the start, read no more, or on a disk that is full."""

import contextlib
import errno
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

from engine.errors import EXIT_RETRY

EXIT_UNREAD = 141


def open_streams() -> None:
    """Gives the process the streams that its caller has closed, as `>&-` does: what is printed there goes nowhere, and no file
    that is opened later takes their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def piped(name: str, work: Callable[[], int]) -> int:
    """The exit code of work that prints: a reader that has seen enough, such as `head`, ends it like any tool of a shell, and a
    full disk is told in one line."""
    try:
        code = work()
        # What is still held back would meet the closed pipe after the end.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        for stream in unread():
            _silence(stream)
        return EXIT_UNREAD
    except OSError as error:
        if not is_full(error):
            raise
        with contextlib.suppress(OSError):  # stderr may be what is full.
            where = "perhaps the one that the printed lines go to"
            print(f"{name}: a disk is full, {where}: free space and run the same command again", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                _silence(stream)
        return EXIT_RETRY


def is_full(error: BaseException) -> bool:
    """Whether a disk had no room, which is the user's matter."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _silence(stream: TextIO) -> None:
    """Sends what a stream still holds nowhere, so that Python can end without another complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def unread() -> list[TextIO]:
    """Which of stdout and stderr nobody reads any more."""
    closed = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # A stand-in has no descriptor.
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            closed += [stream] if poll.poll(0) else []
    return closed
