"""The job that runs a system over a corpus: its keys, how they become the engine's settings, and its output.

It has three names, `jobs.code_reports`, `jobs.extract_entities` and `jobs.read_images`, which differ in their default
system.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.keys import compose, extract, key, section
from engine.models.options import options_of, reads_of
from engine.records import IMAGES
from engine.sources import InputConfig
from engine.storage import S3Config
from jobs._config import Cluster, ImageInput, Input, Model, Output, cluster_of, runtime_of, sizes_of
from jobs._ray_job import check_paths

if TYPE_CHECKING:
    from engine.pipeline import RunConfig


@dataclass
class Reading:
    input: Input = section(Input)
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class ReadingImages:
    input: ImageInput = section(ImageInput)
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class Running:
    cluster: Cluster = section(Cluster)
    storage: S3Config = section(S3Config)
    max_failed: float = key(
        1.0, "Largest share of failed records; if more fail, the finished run ends with exit code 4.", low=0.0, high=1.0
    )


def schema(package: str) -> type:
    """The configuration of a run of the system in a package."""
    options = options_of(package)
    return compose(ReadingImages if reads_of(package) == IMAGES else Reading, options, Running)


def run_config(config: Any) -> "RunConfig":
    """The engine's settings, of an instance of `schema`.

    Raises:
        ConfigError: settings contradict each other.
    """
    from engine.models.base import ModelSpec
    from engine.pipeline import RunConfig

    model = config.model
    check_paths({"input.path": config.input.path, "output.path": config.output.path})
    if getattr(config.input, "root", None) is not None:
        check_paths({"input.root": config.input.root})
    if model.path != Model.path:
        check_paths({"model.path": model.path})
    options = extract(options_of(model.system), config).completed(config.input.keep)
    return RunConfig(
        input=InputConfig(**vars(config.input), reads=reads_of(model.system)),
        model=ModelSpec(model.system, model.path, options, runtime_of(config.cluster)),
        output=config.output.path,
        cluster=cluster_of(config.cluster),
        max_failed=config.max_failed,
        s3=S3Config(**vars(config.storage)),
        **sizes_of(config.cluster, config.output),
    )


def run_and_tell(settings: "RunConfig") -> None:
    """Runs and prints the closing summary, also after too many failed records.

    Raises:
        EngineError: as `engine.pipeline.run`.
    """
    from engine import pipeline
    from engine.errors import TooManyFailures
    from jobs._progress import reporter
    from jobs._summary import closing

    try:
        print(closing(pipeline.run(settings, reporter())))
    except TooManyFailures:
        print(closing(pipeline.status(settings.output)))
        raise
