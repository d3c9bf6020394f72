"""Claims an output folder for one piece of work: a note in it, created only if absent, holds that work's settings.

The same work can then continue there, and any other is refused before it writes anything.
"""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError, InputChanged
from engine.storage import is_s3, storage_for

_SHOWN = 60


@dataclass(frozen=True)
class Kind:
    """What sort of work a folder can belong to, and how a different one is refused.

    Args:
        name: as in "holds no training".
        other: message about a folder with other settings; `{changes}` stands for those that differ.
        change: how one of these is written, with `{name}`, `{before}` and `{now}`. Leave out values that may quote a record.
        note: path of the note within the folder.
    """

    name: str
    other: str
    change: str = "{name}"
    note: str = "settings.json"


def claim(folder: str, settings: Mapping[str, Any], kind: Kind, input: Any = None, **extra: Any) -> dict[str, Any]:
    """Claims a folder for this work, or checks that it already belongs to it; returns the folder's note.

    Args:
        folder: full path, local or on S3.
        settings: plain values, nested or not.
        input: plain values that identify the work's input; stored beside the settings.
        extra: further entries of a new note.

    Raises:
        ConfigError: the folder holds something else or work with other settings, or cannot be written.
        InputChanged: the settings are those of the note, the input is not.
    """
    check(folder, settings, kind)
    note = read(folder, kind)
    if note is None:
        values = {**({} if input is None else {"input": input}), **extra, "settings": settings}
        data = (json.dumps(values, indent=1, default=list) + "\n").encode()
        storage_for(folder).create(posixpath.join(folder, kind.note), data)
        note = read(folder, kind) or values
    # Another driver may have claimed the folder in between.
    _compare(folder, note, settings, kind)
    if input is not None and note.get("input") != _plain(input):
        raise InputChanged(
            f"data.path: the input has changed since this {kind.name} began; bring it back, or choose a new folder"
        )
    return note


def check(folder: str, settings: Mapping[str, Any], kind: Kind) -> None:
    """Checks that a folder is free or already belongs to this work; writes nothing.

    Raises:
        ConfigError: it holds something else, or work with other settings.
    """
    storage, note = storage_for(folder), read(folder, kind)
    if note is None and not is_s3(folder) and storage.stat(folder) is not None:
        raise ConfigError(f"output.path: {folder} is a file; give a folder")
    if note is None and next(iter(storage.list(folder)), None) is not None:
        # Read again after the listing: another driver may have claimed the folder in between.
        note = read(folder, kind)
        if note is None:
            raise ConfigError(f"output.path: {folder} is not empty and holds no {kind.name}; choose a new folder")
    if note is not None:
        _compare(folder, note, settings, kind)


def read(folder: str, kind: Kind) -> dict[str, Any] | None:
    """The note of a folder, or None.

    Raises:
        ConfigError: it is damaged.
    """
    path = posixpath.join(folder, kind.note)
    data = storage_for(folder).read(path)
    if data is None:
        return None
    try:
        note = json.loads(data)
    except ValueError:
        note = None
    if not isinstance(note, dict) or not isinstance(note.get("settings"), dict):
        raise ConfigError(f"{path} is damaged or unreadable; restore it, or choose a new folder")
    return note


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flattened


def _compare(folder: str, note: Mapping[str, Any], settings: Mapping[str, Any], kind: Kind) -> None:
    before, now = flat(note["settings"]), flat(_plain(settings))
    changes = [
        kind.change.format(name=name, before=_short(before.get(name)), now=_short(now.get(name)))
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise ConfigError(f"output.path: {folder} {kind.other.format(changes='; '.join(changes))}")


def _plain(value: Any) -> Any:
    """The value as a note stores it."""
    return json.loads(json.dumps(value, default=list))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
