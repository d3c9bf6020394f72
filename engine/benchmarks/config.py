"""What a benchmark measures, and how large."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.pipeline.config import ClusterConfig
from engine.sources import InputConfig

CORE, LOOP, EVIDENCE, MEMORY, S3 = PARTS = ("core", "loop", "evidence", "memory", "s3")


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how large.

    `input` holds real reports (None: synthetic ones of about 500 words). `core_reports` and `evidence_reports` are in one batch
    of work; `loop_reports` go through the engine and the plain loop; `memory_reports` are the two corpora whose peaks are
    compared; `s3_reports` are coded on S3 and on a local disk. `repeats` counts interleaved repetitions of a part in this
    process, `loop_repeats` those of whole runs.
    """

    model: ModelSpec
    input: InputConfig | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    parts: Sequence[str] = PARTS
    core_reports: int = 256
    loop_reports: int = 5000
    evidence_reports: int = 128
    memory_reports: tuple[int, int] = (10_000, 100_000)
    s3_reports: int = 5000
    batch_sizes: Sequence[int] = (1, 8, 32)
    repeats: int = 3
    loop_repeats: int = 2
    work: str | None = None

    def __post_init__(self) -> None:
        unknown = set(self.parts) - set(PARTS)
        if unknown or not self.parts:
            raise ConfigError(f"bench.parts: {sorted(unknown)} unknown; name some of {', '.join(PARTS)}")
        sizes = ("core_reports", "loop_reports", "evidence_reports", "s3_reports", "repeats", "loop_repeats")
        small = [name for name in sizes if getattr(self, name) < 1]
        if (
            small
            or min(self.memory_reports, default=0) < 1
            or len(self.memory_reports) != 2
            or min(self.batch_sizes, default=0) < 1
        ):
            raise ConfigError(f"bench.{small[0] if small else 'memory_reports or batch_sizes'}: wants whole numbers from 1")

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
