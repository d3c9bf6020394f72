"""The errors of the engine, and the exit code each one becomes.

    EngineError
    ├── ConfigError        2   a setting or the input is wrong; one readable line that says what to do
    │   └── InputChanged   2   a file differs from the plan
    ├── RetryableError     3   the same command may succeed later
    ├── TooManyFailures    4   the run finished, with more failed records than the user allows
    └── ContractError      1   a bug: a promise inside the engine was broken

    RowError                   one record is broken; becomes a row and never leaves its stage

No message ever holds text of a record. Parsers quote the offending line in their errors, so catch those and raise one of these
`from None`.
"""

import traceback

EXIT_OK = 0
EXIT_BUG = 1
EXIT_CONFIG = 2
EXIT_RETRY = 3
EXIT_FAILURES = 4


class EngineError(Exception):
    """Base of every error that the engine raises on purpose; `exit_code` is the job's."""

    exit_code = EXIT_BUG


class ConfigError(EngineError):
    """A setting or the input is wrong.

    Args:
        message: one line that says what to do. key: the setting it is about, which is put in front.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.message, self.key = message, key

    def with_key(self, key: str) -> "ConfigError":
        """The same error under the user's name for the setting, if it is about one."""
        return ConfigError(self.message, self.key and key)


class InputChanged(ConfigError):
    """An input file is missing or no longer what the plan saw."""


class RetryableError(EngineError):
    """Something outside the engine failed, such as a full disk; the same command may succeed later."""

    exit_code = EXIT_RETRY


class TooManyFailures(EngineError):
    """The run finished with a row for every record, but more records failed than the user allows."""

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
        self.kind, self.detail = kind, detail


def where(error: BaseException) -> str:
    """File and line of an exception: all that may be reported of one that could quote a record."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
