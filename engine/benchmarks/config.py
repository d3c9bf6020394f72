"""What a benchmark measures, and how large."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import ConfigError
from engine.keys import check_keys, key
from engine.models.base import ModelSpec
from engine.pipeline.config import ClusterConfig
from engine.sources import InputConfig

CORE, LOOP, EVIDENCE, MEMORY, S3 = PARTS = ("core", "loop", "evidence", "memory", "s3")


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how large.

    `input` holds real reports, None makes synthetic ones. `repeats` are of a part in this process.
    """

    model: ModelSpec
    input: InputConfig | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    name: str | None = key(None, "Name of the measurements in their table; null is the system's.")
    parts: tuple[str, ...] = key(PARTS, "Parts to measure.", choices=PARTS)
    core_reports: int = key(256, "Reports for the compute core, cut to 512 tokens.", low=1)
    loop_reports: int = key(5000, "Whole reports for the engine against a plain loop.", low=1)
    evidence_reports: int = key(128, "Whole reports with evidence and without.", low=1)
    memory_reports: tuple[int, ...] = key((10_000, 100_000), "Sizes of the two corpora whose peak memory is compared.", low=1)
    s3_reports: int = key(
        5000, "Reports coded on S3 (moto's server, started on this machine) and on a local disk, start included.", low=1
    )
    batch_sizes: tuple[int, ...] = key((1, 8, 32), "Batch sizes among which the rival may choose.", low=1)
    repeats: int = key(3, "Interleaved repetitions, of which the median counts.", low=1)
    loop_repeats: int = key(2, "Interleaved repetitions of whole runs.", low=1)
    work: str | None = key(None, "Folder for corpora and runs in passing; null is the system's own.", path=True)

    def __post_init__(self) -> None:
        check_keys(self, "bench.")
        if not self.parts:
            raise ConfigError(f"bench.parts: [] unknown; name some of {', '.join(PARTS)}")
        if len(self.memory_reports) != 2 or not self.batch_sizes:
            raise ConfigError("bench.memory_reports or batch_sizes: wants whole numbers from 1")

    @property
    def kind(self) -> str:
        """Of what kind the reports are."""
        return "synthetic" if self.input is None else "real"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BenchConfig":
        """The inverse of `to_json`."""
        given = values["input"]
        return cls(
            **{
                **values,
                "model": ModelSpec(**values["model"]),
                "input": InputConfig(**{**given, "keep": tuple(given["keep"])}) if given else None,
                "cluster": ClusterConfig(**values["cluster"]),
            }
        )
