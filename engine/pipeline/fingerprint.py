"""What a run is: every setting that changes a value in a row. One output folder belongs to one fingerprint."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from engine import __version__
from engine.errors import ConfigError
from engine.models.base import System
from engine.pipeline.config import RunConfig
from engine.pipeline.layout import Layout
from engine.storage import Storage

_SHOWN = 60


def fingerprint(config: RunConfig, system: System) -> dict[str, Any]:
    """Setting -> plain value. Neither the input's path and listing nor the shard size nor the cluster is part of it."""
    reading = {key: value for key, value in dataclasses.asdict(config.input).items() if key != "path"}
    model = {"system": config.model.system, "digest": system.digest, "options": config.model.options}
    found = {"engine": __version__, "table": system.table, **_flat({"input": reading, "model": model})}
    return json.loads(json.dumps(found, sort_keys=True, default=list))


def run_id(found: Mapping[str, Any]) -> str:
    """Twelve hex digits that stand in every row."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def check(storage: Storage, layout: Layout, found: Mapping[str, Any]) -> None:
    """Checks that the output folder is free, or this run's already; writes nothing.

    Raises:
        ConfigError: it holds something else, or belongs to a run with other settings.
    """
    theirs = read(storage, layout)
    if theirs is None and next(iter(storage.list(layout.output)), None) is not None:
        # Read again after the listing: another driver may have claimed the folder in between.
        theirs = read(storage, layout)
        if theirs is None:
            raise ConfigError(f"{layout.output} is not empty and not the output of a run; name a new folder")
    if theirs is not None:
        _compare(layout, theirs["settings"], found)


def claim(storage: Storage, layout: Layout, found: Mapping[str, Any], limits: Mapping[str, str]) -> str:
    """Makes an output folder that `check` has passed this run's, or finds that it is; returns the run's id.

    Args:
        limits: what the run's system never does, kept for those who ask without the model.

    Raises:
        ConfigError: the folder cannot be written, or a driver with other settings was faster.
    """
    name = run_id(found)
    theirs = read(storage, layout)
    if theirs is None:
        values = {"run_id": name, "settings": found, "limits": dict(limits)}
        storage.create(layout.run, (json.dumps(values, indent=1) + "\n").encode())
        theirs = read(storage, layout)
    _compare(layout, theirs["settings"], found)
    return name


def _compare(layout: Layout, theirs: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    if theirs != found:
        names = sorted(key for key in theirs.keys() | found.keys() if theirs.get(key) != found.get(key))
        changes = "; ".join(f"{key} was {_short(theirs.get(key))}, now {_short(found.get(key))}" for key in names)
        raise ConfigError(f"{layout.output} belongs to another run ({changes}); name a new folder or restore the settings")


def read(storage: Storage, layout: Layout) -> dict[str, Any] | None:
    """What `_run.json` says, None if there is none."""
    data = storage.read(layout.run)
    if data is None:
        return None
    try:
        found = json.loads(data)
        # A run of before 0.2 tells no limits.
        return {
            "run_id": str(found["run_id"]),
            "settings": dict(found["settings"]),
            "limits": dict(found.get("limits", {})),
        }
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{layout.run} is damaged; restore it, or name a new output folder") from None


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat.update(_flat(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
