"""`python -m jobs.bench output.path=bench.parquet`: how fast, how frugal, against whom."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.keys import MISSING, build, composed, key, section
from engine.models.options import options_of
from jobs._config import Cluster, Input, Model
from jobs._front import job
from jobs._run import run_config
from jobs._run import schema as run_schema
from jobs._storage import Storage, use

if TYPE_CHECKING:
    from engine.pipeline import RunConfig

PARTS = ("core", "loop", "evidence", "memory", "s3")


@dataclass
class Reports(Input):
    path: str | None = key(None, "File, folder or glob with reports; null takes synthetic ones of about 500 words.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Parquet file for the measurements; holds those done so far while it runs.", path=True)


@dataclass
class Bench:
    name: str | None = key(None, "Name of the measurements in their table; null is the system's.")
    parts: list[str] = key(list(PARTS), "Parts to measure.", choices=PARTS)
    core_reports: int = key(256, "Reports for the compute core, cut to 512 tokens.", low=1)
    loop_reports: int = key(5000, "Whole reports for the engine against a plain loop.", low=1)
    evidence_reports: int = key(128, "Whole reports with evidence and without.", low=1)
    memory_reports: list[int] = key([10_000, 100_000], "Sizes of the two corpora whose peak memory is compared.", low=1)
    s3_reports: int = key(
        5000, "Reports coded on S3 (moto's server, started on this machine) and on a local disk, start included.", low=1
    )
    batch_sizes: list[int] = key([1, 8, 32], "Batch sizes among which the rival may choose.", low=1)
    repeats: int = key(3, "Interleaved repetitions, of which the median counts.", low=1)
    loop_repeats: int = key(2, "Interleaved repetitions of whole runs.", low=1)
    work: str | None = key(None, "Folder for corpora and runs in passing; null is the system's own.", path=True)


@dataclass
class Measured:
    input: Reports = section(Reports)
    output: Output = section(Output)
    model: Model = section(Model)


@dataclass
class Running:
    cluster: Cluster = section(Cluster)
    bench: Bench = section(Bench)
    storage: Storage = section(Storage)


def schema(package: str) -> type:
    """The configuration of measurements of the system in a package."""
    return composed(Measured, options_of(package), Running)


def run_of(config: Any) -> "RunConfig":
    """The run that is measured."""
    values = {name: each for name, each in asdict(config).items() if name != "bench"}
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
    from engine.benchmarks.config import BenchConfig
    from engine.benchmarks.run import run as measured

    use(config.storage)
    run, name = run_of(config), config.bench.name or config.model.system.rpartition(".")[2]
    sizes = {name: value for name, value in vars(config.bench).items() if name not in ("name", "memory_reports")}
    bench = BenchConfig(
        model=run.model,
        input=run.input if config.input.path else None,
        cluster=run.cluster,
        memory_reports=tuple(config.bench.memory_reports),
        **sizes,
    )
    rows: list[measure.Measurement] = []
    measure.write(config.output.path, measure.to_table(name, rows))
    for part in measured(bench, say=print):
        rows += part
        measure.write(config.output.path, measure.to_table(name, rows))
    measure.show(measure.to_table(name, rows))


if __name__ == "__main__":
    main()
