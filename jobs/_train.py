"""The keys of a training: those of every training, and those of the system's recipe."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import ConfigError
from engine.keys import MISSING, compose, extract, key, section
from engine.models import base
from engine.storage import S3Config
from engine.training.config import LoopConfig
from jobs._ray_job import check_paths


@dataclass
class Output:
    path: str = key(MISSING, "Checkpoint folder to write; the same command again continues where it stopped.", path=True)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system to train; model=<name> sets it.")


@dataclass
class Common:
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class Cluster:
    workers: int = key(1, "Training processes; each gets a share of every step.", low=1)
    gpu: bool = key(False, "One GPU for each worker.")
    threads: int = key(0, "CPU threads of a worker; 0 divides this machine's cores among the workers.", low=0)
    precision: str = key(
        "auto", "Arithmetic of the frozen encoder; auto decides by the hardware.", choices=("auto", "fp32", "bf16")
    )
    max_failures: int = key(3, "Number of lost workers that are replaced before the job gives up with exit code 3.", low=0)


@dataclass
class Running:
    train: LoopConfig = section(LoopConfig)
    cluster: Cluster = section(Cluster)
    storage: S3Config = section(S3Config)


def schema(package: str) -> type:
    """The configuration of a training of the system in a package."""
    return compose(Common, base.recipe(package).Settings, Running)


def settings_of(config: Any) -> dict[str, Any]:
    """The plain settings of a training, of an instance of `schema`.

    Raises:
        ConfigError: a path would vanish with the folder of a Ray job, or the system does not measure train.watch.
    """
    recipe = base.recipe(config.model.system)
    settings: dict[str, Any] = _plain(asdict(extract(recipe.Settings, config)))
    check_paths({"data.path": settings["data"]["path"], "output.path": config.output.path})
    figures = recipe.watched(settings)
    config.train.watch = config.train.watch or figures[0]
    if config.train.watch not in figures:
        raise ConfigError(f"train.watch: '{config.train.watch}' is none of {', '.join(figures)}")
    return {**settings, "precision": config.cluster.precision, "seed": config.train.seed}


def _plain(values: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    return list(values) if isinstance(values, tuple) else values
