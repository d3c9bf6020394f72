"""This folder is mine: a note in it, created only if absent, has the settings of the one work that the folder belongs to.

So the same work goes on there, and another one is refused before it writes anything.
"""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ConfigError, InputChanged
from engine.storage import is_s3, storage_for

_SHOWN = 60


@dataclass(frozen=True)
class Kind:
    """What sort of work a folder can belong to, and how another one is refused.

    Args:
        name: as in "holds no training".
        other: what is said of a folder with other settings; `{changes}` stands for those that differ.
        change: one of these, with `{name}`, `{before}` and `{now}`. Values that may hold words of a record are left out.
        note: the note, below the folder.
        under: the key of the note below which the settings stand; empty: they are all that it has.
        first: the setting that says which work it is; where it differs, no other is told.
        assumed: settings that a note does not have to name.
    """

    name: str
    other: str
    change: str = "{name}"
    note: str = "settings.json"
    under: str = "settings"
    first: str = ""
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def of(self, folder: str) -> str:
        """Where the note of a folder lies."""
        return posixpath.join(folder, self.note)


def claim(folder: str, settings: Mapping[str, Any], kind: Kind, given: Any = None, **beside: Any) -> dict[str, Any]:
    """Makes a folder this work's own, or sees that it is; returns its note.

    Args:
        folder: full path, local or on S3.
        settings: plain values, nested or not.
        given: what tells the work's input from another, in plain values; it is kept beside the settings, as `input`.
        beside: what a new note has besides.

    Raises:
        ConfigError: the folder holds something else or a work with other settings, or cannot be written.
        InputChanged: the settings are those of the note, the input is not.
    """
    check(folder, settings, kind)
    note = read(folder, kind)
    if note is None:
        own = dict(beside) if given is None else {"input": given, **beside}
        values = {**own, kind.under: settings} if kind.under else settings
        storage_for(folder).create(kind.of(folder), (json.dumps(values, indent=1, default=list) + "\n").encode())
        note = read(folder, kind) or values
    # Another driver may have been faster than either look.
    _compare(folder, note, settings, kind)
    if given is not None and note.get("input") != _plain(given):
        raise InputChanged(
            f"data.path: the input has changed since this {kind.name} began; bring it back, or choose a new folder"
        )
    return note


def check(folder: str, settings: Mapping[str, Any], kind: Kind) -> None:
    """Sees that a folder is free or this work's already; writes nothing.

    Raises:
        ConfigError: it holds something else, or a work with other settings.
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
    """The note of a folder, None if there is none.

    Raises:
        ConfigError: it is damaged.
    """
    data = storage_for(folder).read(kind.of(folder))
    if data is None:
        return None
    try:
        note = json.loads(data)
    except ValueError:
        note = None
    if not isinstance(note, dict) or (kind.under and not isinstance(note.get(kind.under), dict)):
        raise ConfigError(f"{kind.of(folder)} is damaged or unreadable; restore it, or choose a new folder")
    return note


def _compare(folder: str, note: Mapping[str, Any], settings: Mapping[str, Any], kind: Kind) -> None:
    before = flat({**kind.assumed, **(note[kind.under] if kind.under else note)})
    now = flat(_plain(settings))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        told = [kind.first] if kind.first in names else names
        changes = (kind.change.format(name=name, before=_short(before.get(name)), now=_short(now.get(name))) for name in told)
        raise ConfigError(f"output.path: {folder} {kind.other.format(changes='; '.join(changes))}")


def _plain(value: Any) -> Any:
    """As it stands in a note."""
    return json.loads(json.dumps(value, default=list))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
