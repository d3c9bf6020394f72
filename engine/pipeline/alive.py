"""A driver's sign of life: a small file that it writes again every few seconds and removes at its end.

It says when, and what the driver waits for; nothing of where it runs. All else in the output folder has its name once and for
good; this does not, and no promise rests on it: it tells a run that is being worked on from one whose driver died.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.errors import EngineError, RetryableError
from engine.pipeline.events import event
from engine.pipeline.layout import Layout
from engine.storage import Storage

BEAT = 10.0
# Some beats may come late, or not at all: from a busy machine, or through a store that must be asked twice.
SILENCE = 45.0
# At the end for a sign that is being written: through a failing store that takes as long as any of its requests is tried again.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Sign:
    """A driver's last sign: seconds since then by this machine's clock, negative where the driver's is ahead of it, and what the
    driver waited for, if anything."""

    seconds: float
    waits: str | None

    @property
    def age(self) -> float:
        return max(0.0, self.seconds)

    @property
    def alive(self) -> bool:
        return abs(self.seconds) < SILENCE


class SignOfLife:
    """Signs for the length of a block.

    Args:
        look: called before each sign but the first; returns what the driver waits for now, None for nothing in particular.
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
        # What ends the run is to be told, not this, and at once: a store that has just failed is not asked again for as long as
        # it took to find out. The next publication removes the file.
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
                # The work itself meets whatever is wrong with the folder, and ends or overcomes it.
                event("no_sign_of_life", error=type(error).__name__)

    def _write(self, waits: str | None) -> None:
        sign = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "waits": waits}
        with self._storage.writer(self._path) as file:
            file.write(json.dumps(sign).encode())


def last_sign(storage: Storage, layout: Layout) -> Sign | None:
    """The youngest sign of life, None where no driver has left any."""
    signs = [_parse(storage.read(entry.path)) for entry in storage.list(layout.drivers)]
    return min((sign for sign in signs if sign is not None), key=lambda sign: abs(sign.seconds), default=None)


def age(at: str) -> float:
    """Seconds since a time in a file of the run; 0 for one that this machine's clock has not reached yet.

    Raises:
        ValueError: it is no time.
    """
    return max(0.0, _since(at))


def _since(at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()


def _parse(data: bytes | None) -> Sign | None:
    """None for a sign that its driver has removed meanwhile, and for anything that is none."""
    try:
        values = json.loads(data or b"")
        return Sign(_since(values["at"]), values["waits"])
    except (ValueError, KeyError, TypeError):
        return None
