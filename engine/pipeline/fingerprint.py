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
    found = {"engine": __version__, "table": system.table, **flat({"input": reading, "model": model})}
    return json.loads(json.dumps(found, sort_keys=True, default=list))


def run_id(found: Mapping[str, Any]) -> str:
    """Twelve hex digits that stand in every row."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def check(layout: Layout, found: Mapping[str, Any]) -> None:
    """Checks that the output folder is free, or this run's already; writes nothing.

    Raises:
        ConfigError: it holds something else, or belongs to a run with other settings.
    """
    claim.check(layout.output, found, _RUN)


def take(layout: Layout, found: Mapping[str, Any], limits: Mapping[str, str]) -> str:
    """Makes an output folder that `check` has passed this run's, or finds that it is; returns the run's id.

    Args:
        limits: what the run's system never does, kept for those who ask without the model.

    Raises:
        ConfigError: the folder cannot be written, or a driver with other settings was faster.
    """
    claim.claim(layout.output, found, _RUN, run_id=run_id(found), limits=dict(limits))
    return run_id(found)


def read(layout: Layout) -> dict[str, Any] | None:
    """What `_run.json` says, None if there is none."""
    found = claim.read(layout.output, _RUN)
    if found is None:
        return None
    if not isinstance(found.get("run_id"), str) or not isinstance(found.get("limits"), dict):
        raise ConfigError(f"{layout.run} is damaged or of an earlier version; restore it, or choose a new folder")
    return found
