"""Front doors."""

import sys
from types import TracebackType


def interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: Ctrl-C in the seconds before a job begins, while its modules are loaded, needs no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run the same command again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# So it stands while Python looks for the module that `-m` names.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = interrupted
