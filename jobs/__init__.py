"""The jobs: one command a file."""

import sys
from types import TracebackType


def interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: Ctrl-C while the modules of a job are still loading needs no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run the same command again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# This is `sys.argv` while Python looks for the module that `-m` names.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = interrupted
