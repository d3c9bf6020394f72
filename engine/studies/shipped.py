"""A fit that trains nothing: the checkpoint at `model.path`, or without it the one that comes along with the system."""

from dataclasses import dataclass
from pathlib import Path

from engine.models.base import ModelSpec, load
from engine.studies.run import Task
from engine.studies.settings import check_parts, options


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder (`shipped` is the one that comes along) and the digest of its files."""

    folder: Path
    identity: str


@dataclass(frozen=True)
class _Model:
    path: str = "shipped"


def fit(task: Task) -> Checkpoint:
    """The checkpoint, verified against the digests that it holds.

    Raises:
        ConfigError: there is none, it is of another system, or a setting is unknown.
    """
    check_parts(task, "model", "data", "explain")
    path = options(_Model, task, "model").path
    return Checkpoint(Path(path), load(ModelSpec(f"engine.models.{task.study.system}", path)).digest)
