"""Events as one JSON object a line on the logger "marginalia". Facts are names and numbers, never text of a record."""

import json
import logging
from datetime import UTC, datetime

LOGGER = logging.getLogger("marginalia")


def event(name: str, level: int = logging.INFO, **facts: object) -> None:
    """Logs one event; `facts` must be JSON-able."""
    LOGGER.log(level, json.dumps({"event": name, **facts}, sort_keys=True))


def now() -> str:
    """The time, as the files of a run have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
