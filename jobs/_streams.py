"""stdin, stdout and stderr of a job: closed from the start, no longer read, or on a full disk."""

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
    """Replaces the streams that the caller has closed, as `>&-` does: what is printed there is dropped, and no file that is
    opened later gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def piped(name: str, work: Callable[[], int]) -> int:
    """The exit code of work that prints. A reader that has seen enough, such as `head`, ends it as it ends any tool of a shell; a
    full disk is reported in one line."""
    try:
        code = work()
        # What is still buffered would meet the closed pipe after the end.
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
    """Whether an error means a full disk, which is not a bug."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _silence(stream: TextIO) -> None:
    """Drops what a stream still holds, so that Python can end without another complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def unread() -> list[TextIO]:
    """Those of stdout and stderr that nobody reads any more."""
    closed = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # The stand-in of a test has no descriptor.
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            closed += [stream] if poll.poll(0) else []
    return closed
