"""How a run tells of itself while it runs; drawing is the caller's."""

from dataclasses import dataclass
from typing import Protocol

# The phases in which a driver waits; between the last two of them shards come in.
PLANNING = "looking through the input"
STARTING = "starting Ray"
LOADING = "reading, and loading the model"
FIRST = "coding the first shards"
PUBLISHING = "writing the tables"


@dataclass(frozen=True)
class Standing:
    """Committed so far and in all. `records` in all is None where the input's format does not tell before reading.

    `since` are the seconds from when the model began on the shard that was committed last until it was committed; `at_once` is
    how many shards are worked on at the same time.
    """

    shards: int
    shards_total: int
    bytes: int
    bytes_total: int
    records: int
    records_total: int | None
    since: float = 0.0
    at_once: int = 1


class Progress(Protocol):
    """Told of progress by the driver. `wait` may come from another thread than all else."""

    def note(self, line: str) -> None:
        """Before the start: something about the input that the user should know."""

    def wait(self, what: str) -> None:
        """What the driver waits for from now on, one of the phases, until another call says more."""

    def start(self, state: Standing) -> None:
        """The plan stands; `state` holds what earlier runs have done."""

    def update(self, state: Standing) -> None:
        """One more shard has its receipt."""

    def close(self) -> None:
        """The run is over, well or not."""


class Silent:
    """A reporter that says nothing."""

    def note(self, line: str) -> None: ...

    def wait(self, what: str) -> None: ...

    def start(self, state: Standing) -> None: ...

    def update(self, state: Standing) -> None: ...

    def close(self) -> None: ...
