"""The fingerprint of a run: every setting that changes a value in a row. One output folder belongs to one fingerprint."""

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
from engine.storage import claim
from engine.storage.claim import Kind, flat

_RUN = Kind(
    "output of a run",
    "belongs to another run ({changes}); name a new folder or restore the settings",
    "{name} was {before}, now {now}",
    note="_run.json",
)


def fingerprint(config: RunConfig, system: System) -> dict[str, Any]:
    """Setting -> plain value. Neither the input's path and listing nor the shard size nor the cluster is part of it."""
    reading = {key: value for key, value in dataclasses.asdict(config.input).items() if key != "path"}
    model = {"system": config.model.system, "digest": system.digest, "options": config.model.options}
    settings = {"engine": __version__, "table": system.table, **flat({"input": reading, "model": model})}
    return json.loads(json.dumps(settings, sort_keys=True, default=list))


def run_id(settings: Mapping[str, Any]) -> str:
    """The id of the run with a fingerprint: twelve hex digits, which every row has."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def check(layout: Layout, settings: Mapping[str, Any]) -> None:
    """Checks that the output folder is free or already this run's; writes nothing.

    Raises:
        ConfigError: it holds something else, or belongs to a run with other settings.
    """
    claim.check(layout.output, settings, _RUN)


def take(layout: Layout, settings: Mapping[str, Any], limits: Mapping[str, str]) -> str:
    """Claims an output folder that has passed `check` for this run; returns the run's id.

    Args:
        limits: what the run's system never does, stored for `jobs.status`, which has no model.

    Raises:
        ConfigError: the folder cannot be written, or a driver with other settings was faster.
    """
    claim.claim(layout.output, settings, _RUN, run_id=run_id(settings), limits=dict(limits))
    return run_id(settings)


def read(layout: Layout) -> dict[str, Any] | None:
    """The content of `_run.json`, None if it does not exist."""
    note = claim.read(layout.output, _RUN)
    if note is not None and not (isinstance(note.get("run_id"), str) and isinstance(note.get("limits"), dict)):
        raise ConfigError(f"{layout.run} is damaged or of an earlier version; restore it, or choose a new folder")
    return note
