"""What a run reports while it works. How that is shown is the caller's business."""

from dataclasses import dataclass

# The phases in which a driver waits; between the last two of them shards come in.
PLANNING = "looking through the input"
STARTING = "starting Ray"
LOADING = "reading, and loading the model"
FIRST = "coding the first shards"
PUBLISHING = "writing the tables"


@dataclass(frozen=True)
class Standing:
    """The work that is committed so far, and all work. `records_total` is None where the input's format does not tell it early.

    `since` is the time from when the model began on the last committed shard until its commit, in seconds. `at_once` is the
    number of shards in work at the same time.
    """

    shards: int
    shards_total: int
    bytes: int
    bytes_total: int
    records: int
    records_total: int | None
    since: float = 0.0
    at_once: int = 1


class Progress:
    """The driver calls this as it proceeds. This one shows nothing; `wait` may be called from another thread than the rest."""

    def note(self, line: str) -> None:
        """Before the start: something about the input that the user should know."""

    def wait(self, what: str) -> None:
        """From now on, until the next call of any kind, the driver waits for one of the phases."""

    def start(self, state: Standing) -> None:
        """The plan is complete; `state` holds what earlier runs have done."""

    def update(self, state: Standing) -> None:
        """One more shard has its receipt."""

    def close(self) -> None:
        """The run is over, successful or not."""
