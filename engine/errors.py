"""The errors of the engine, and the exit code each one becomes.

    EngineError
    ├── ConfigError        2   a setting or the input is wrong; one readable line that says what to do
    │   └── InputChanged   2   a file is not what the plan saw
    ├── RetryableError     3   the same command may succeed later
    ├── TooManyFailures    4   the run finished, with more failed records than the user allows
    └── ContractError      1   a bug of ours: a promise inside the engine was broken

    RowError                   one record is broken; becomes a row, never leaves the stage that met it

No message ever holds text of a record: parsers quote the offending line in their errors, so catch those and raise one of
these `from None`.
"""

EXIT_OK = 0
EXIT_BUG = 1
EXIT_CONFIG = 2
EXIT_RETRY = 3
EXIT_FAILURES = 4


class EngineError(Exception):
    """Base of every error that the engine raises on purpose. `exit_code` is what a job ends with."""

    exit_code = EXIT_BUG


class ConfigError(EngineError):
    """A setting or the input is wrong. The message is one line that says what to do.

    Args:
        told: the line. key: the setting that it is about, which stands in front.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, told: str, key: str | None = None) -> None:
        super().__init__(f"{key}: {told}" if key else told)
        self.told, self.key = told, key

    def under(self, key: str) -> "ConfigError":
        """The same under the name by which the user knows the setting, where it is about one."""
        return ConfigError(self.told, self.key and key)


class InputChanged(ConfigError):
    """An input file is missing or is not the one that the plan saw."""


class RetryableError(EngineError):
    """Something outside the engine failed (a full disk, too many lost workers): the same command may succeed later."""

    exit_code = EXIT_RETRY


class TooManyFailures(EngineError):
    """The run finished and every record has its row, but more of them failed than the user allows."""

    exit_code = EXIT_FAILURES


class ContractError(EngineError):
    """A promise between two rooms of the engine was broken. Always a bug."""


class RowError(Exception):
    """One record is broken.

    Args:
        kind: one of `engine.records.FAILURE_KINDS`.
        detail: a class name, offsets or counts; never text of the record.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


def where(error: BaseException) -> str:
    """File and line of an exception, which is all that may be told of one that could quote a record."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return "?"
    return f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}"
