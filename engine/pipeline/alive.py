"""A driver's sign of life: a small file that it rewrites every few seconds and removes at its end.

It holds the time and what the driver waits for, and nothing about where it runs. It tells a running driver from a dead one. No
promise rests on it: unlike all other files in the output folder it changes.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.errors import EngineError, RetryableError
from engine.pipeline.events import event, now
from engine.pipeline.layout import Layout
from engine.storage import Storage

BEAT = 10.0
# Some beats come late or not at all: from a busy machine, or through a store that needs a second try.
SILENCE = 45.0
# The wait, at the end, for a sign that is being written: a failing store is retried for long.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Sign:
    """A driver's last sign: how long ago it was by this machine's clock (negative if the driver's is ahead), and what the driver
    waited for, if anything."""

    seconds: float
    waits: str | None

    @property
    def age(self) -> float:
        return max(0.0, self.seconds)

    @property
    def alive(self) -> bool:
        return abs(self.seconds) < SILENCE


class SignOfLife:
    """Writes signs while the block runs.

    Args:
        look: called before each sign but the first; returns what the driver waits for, or None.
    """

    def __init__(self, storage: Storage, layout: Layout, driver: str, look: Callable[[], str | None]) -> None:
        self._storage, self._path, self._look = storage, layout.driver(driver), look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="sign-of-life", daemon=True)

    def __enter__(self) -> None:
        self._write(None)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE)
        # After a store has failed the run's own error must come out at once, so the store is not tried again here. The next
        # publication removes the file.
        if self._thread.is_alive() or (kind is not None and issubclass(kind, RetryableError)):
            event("sign_of_life_left")
            return
        try:
            self._storage.remove(self._path)
        except (EngineError, OSError) as error:
            event("sign_of_life_left", error=type(error).__name__)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._write(self._look())
            except (EngineError, OSError) as error:
                # The work itself meets the same trouble, and ends or overcomes it.
                event("no_sign_of_life", error=type(error).__name__)

    def _write(self, waits: str | None) -> None:
        with self._storage.writer(self._path) as file:
            file.write(json.dumps({"at": now(), "waits": waits}).encode())


def last_sign(storage: Storage, layout: Layout) -> Sign | None:
    """The latest sign of life, None where there is none."""
    signs = [_parse(storage.read(entry.path)) for entry in storage.list(layout.drivers)]
    return min((sign for sign in signs if sign is not None), key=lambda sign: abs(sign.seconds), default=None)


def age(at: str) -> float:
    """Seconds since a time in a file of the run; 0 for one in this machine's future.

    Raises:
        ValueError: it is no time.
    """
    return max(0.0, _since(at))


def _since(at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()


def _parse(data: bytes | None) -> Sign | None:
    """A sign from its bytes; None where the driver has removed it meanwhile, and for anything else."""
    try:
        values = json.loads(data or b"")
        return Sign(_since(values["at"]), values["waits"])
    except (ValueError, KeyError, TypeError):
        return None
