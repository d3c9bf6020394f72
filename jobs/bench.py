"""Measures speed and memory against rivals: `python -m jobs.bench output.path=bench.parquet`."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.benchmarks.config import BenchConfig
from engine.errors import ConfigError
from engine.keys import MISSING, build, compose, key, section
from engine.models.options import options_of, reads_of
from engine.records import IMAGES
from engine.storage import S3Config, use_s3
from jobs._config import Cluster, ImageInput, Input, Model
from jobs._front import job
from jobs._run import run_config
from jobs._run import schema as run_schema

if TYPE_CHECKING:
    from engine.pipeline import RunConfig


@dataclass(frozen=True)
class Reports(Input):
    path: str | None = key(None, "File, folder or glob with reports; null takes synthetic ones of about 500 words.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Parquet file for the measurements; each part is added when it is done.", path=True)


@dataclass
class Measured:
    input: Reports = section(Reports)
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass(frozen=True)
class Images(ImageInput):
    path: str | None = key(None, "Not used: systems for images are measured on synthetic radiographs.", path=True)


@dataclass
class MeasuredOnImages:
    input: Images = section(Images)
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class Running:
    cluster: Cluster = section(Cluster)
    bench: BenchConfig = section(BenchConfig)
    storage: S3Config = section(S3Config)


def schema(package: str) -> type:
    """The configuration of measurements of the system in a package; one that reads images is measured on synthetic ones."""
    return compose(MeasuredOnImages if reads_of(package) == IMAGES else Measured, options_of(package), Running)


def run_of(config: Any) -> "RunConfig":
    """The run that is measured."""
    values = {name: value for name, value in asdict(config).items() if name != "bench"}
    values["input"]["path"] = config.input.path or "synthetic"
    return run_config(build(run_schema(config.model.system), values))


@job(
    "bench",
    schema,
    "Measures a system and its engine against their rivals on this machine, prints a table and writes it as Parquet. It takes an "
    "hour or more on two cores; bench=smoke only shows that it runs.",
    examples=[
        "output.path=bench.parquet",
        "input.path=reports.parquet output.path=bench.parquet",
        "bench=smoke output.path=smoke.parquet",
    ],
)
def main(config: Any) -> None:
    from engine.benchmarks import measure
    from engine.benchmarks.run import run as measure_parts

    use_s3(S3Config(**vars(config.storage)))
    if config.input.path and reads_of(config.model.system) == IMAGES:
        raise ConfigError("input.path: systems for images are measured on synthetic radiographs; leave it out")
    run, name = run_of(config), config.bench.name or config.model.system.rpartition(".")[2]
    bench = BenchConfig(run.model, run.input if config.input.path else None, run.cluster, **vars(config.bench))
    rows: list[measure.Measurement] = []
    measure.write(config.output.path, measure.to_table(name, rows))
    for part in measure_parts(bench, say=print):
        rows += part
        measure.write(config.output.path, measure.to_table(name, rows))
    measure.show(measure.to_table(name, rows))


if __name__ == "__main__":
    main()
