"""How a run tells of itself while it runs; drawing is the caller's."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Standing:
    """Committed so far and in all. `records` in all is None where the input's format does not tell before reading."""

    shards: int
    shards_total: int
    bytes: int
    bytes_total: int
    records: int
    records_total: int | None


class Progress(Protocol):
    """Told of progress by the driver; every call comes from the same thread."""

    def note(self, line: str) -> None:
        """Before the start: something about the input that the user should know."""

    def start(self, state: Standing) -> None:
        """The plan stands; `state` holds what earlier runs have done."""

    def update(self, state: Standing) -> None:
        """One more shard has its receipt."""

    def publish(self) -> None:
        """All shards have receipts; the tables are being written."""

    def close(self) -> None:
        """The run is over, well or not."""


class Silent:
    """A reporter that says nothing."""

    def note(self, line: str) -> None: ...

    def start(self, state: Standing) -> None: ...

    def update(self, state: Standing) -> None: ...

    def publish(self) -> None: ...

    def close(self) -> None: ...
