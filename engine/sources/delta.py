"""Finds data files in the folder of a Delta table whose rows its log has deleted, for a warning."""

import json
import posixpath
from collections.abc import Iterable
from urllib.parse import unquote

from engine.sources.base import unreadable
from engine.storage import Entry, Storage

LOG = "_delta_log"

# Of a longer log the newest commits are read, since files that older ones removed are usually gone.
_MOST_COMMITS = 1000
_MOST_BYTES = 16 << 20


def outdated(storage: Storage, log: Iterable[Entry]) -> set[str]:
    """Paths of files that were removed from their table, wholly or some of their rows.

    Args:
        log: log files of one table or several.
    """
    deleted: dict[str, bool] = {}
    commits = sorted((entry for entry in log if entry.path.endswith(".json")), key=lambda entry: entry.path)
    for entry in commits[-_MOST_COMMITS:]:
        table = posixpath.dirname(posixpath.dirname(entry.path))
        actions = _actions(storage, entry)
        # A commit that deletes rows within a file removes it and adds it again.
        for name in ("remove", "add"):
            for action in actions:
                file = action.get(name)
                if isinstance(file, dict) and isinstance(file.get("path"), str):
                    path = posixpath.join(table, unquote(file["path"])) if "://" not in file["path"] else file["path"]
                    deleted[path] = name == "remove" or bool(file.get("deletionVector"))
    return {path for path, is_deleted in deleted.items() if is_deleted}


def _actions(storage: Storage, entry: Entry) -> list[dict]:
    """The objects of one commit; none if the log cannot be read."""
    if entry.size > _MOST_BYTES:
        return []
    try:
        data = storage.read(entry.path) or b""
    except OSError as error:
        unreadable(entry.path, error)
        return []
    actions = []
    for line in data.splitlines():
        try:
            actions.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [action for action in actions if isinstance(action, dict)]
