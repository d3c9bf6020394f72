"""What a benchmark measures, and how large."""

from dataclasses import dataclass, field

from engine.errors import ConfigError
from engine.keys import check_keys, key
from engine.models.base import ModelSpec
from engine.models.options import reads_of
from engine.pipeline.config import ClusterConfig
from engine.records import IMAGES
from engine.sources import InputConfig

CORE, LOOP, EVIDENCE, MEMORY, S3 = PARTS = ("core", "loop", "evidence", "memory", "s3")


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and how large. `input` holds real reports; None takes synthetic ones. For a system that reads images the
    sizes count synthetic radiographs."""

    model: ModelSpec
    input: InputConfig | None = None
    # Never None: with the bare type its keys would become keys of the benchmark.
    cluster: ClusterConfig | None = field(default_factory=ClusterConfig)
    name: str | None = key(None, "Name of the measurements in their table; null takes the system's name.")
    parts: tuple[str, ...] = key(PARTS, "Parts to measure.", choices=PARTS)
    core_reports: int = key(256, "Reports for the compute core, cut to 512 tokens, or radiographs.", low=1)
    loop_reports: int = key(5000, "Whole reports, or radiographs, for the comparison of the engine with a plain loop.", low=1)
    evidence_reports: int = key(128, "Whole reports, or radiographs, to process with and without evidence.", low=1)
    memory_reports: tuple[int, ...] = key((10_000, 100_000), "Sizes of the two corpora whose peak memory is compared.", low=1)
    s3_reports: int = key(
        5000, "Records to process on S3 (moto's server, started on this machine) and on a local disk, start-up included.", low=1
    )
    batch_sizes: tuple[int, ...] = key(
        (1, 8, 32), "Batch sizes to try with the rival, whose best one counts; for images with the model itself.", low=1
    )
    repeats: int = key(3, "Interleaved repetitions; the median counts.", low=1)
    loop_repeats: int = key(2, "Interleaved repetitions of whole runs; the median counts.", low=1)
    work: str | None = key(
        None, "Folder for temporary corpora and runs; null takes the operating system's temporary folder.", path=True
    )

    def __post_init__(self) -> None:
        check_keys(self, "bench.")
        if not self.parts:
            raise ConfigError(f"bench.parts: name at least one of {', '.join(PARTS)}")
        if len(self.memory_reports) != 2:
            raise ConfigError("bench.memory_reports: give two sizes")
        if not self.batch_sizes:
            raise ConfigError("bench.batch_sizes: give at least one size")

    @property
    def reads(self) -> str:
        """What the system's records hold: TEXT or IMAGES of `engine.records`."""
        return reads_of(self.model.system)

    @property
    def kind(self) -> str:
        """The kind of records, to name them."""
        return f"{'synthetic' if self.input is None else 'real'} {'radiographs' if self.reads == IMAGES else 'reports'}"
