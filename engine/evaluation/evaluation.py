"""The result of measuring a run against gold, whatever its table holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.metrics import ALL, Metric, to_table
from engine.records import CODES, METRICS, check, wrong_schema
from engine.storage import storage_for

METRICS_FILE, WRONG_FILE = "metrics/metrics.parquet", "wrong/wrong.parquet"
"""Paths of the tables in the folder of an evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics; in `notes` a sentence for everything that was left out or could not be measured; the `wrong` answers, worst
    first; `table` is the name of the measured table."""

    tasks: tuple[str, ...]
    metrics: list[Metric]
    notes: list[str]
    counts: Mapping[str, int] = field(default_factory=dict)
    wrong: pa.Table = field(default_factory=lambda: wrong_schema(()).empty_table())
    table: str = CODES

    def get(self, task: str | None, metric: str, part: str = ALL) -> Metric | None:
        """One row, None if it is missing."""
        return next((m for m in self.metrics if (m.task, m.metric, m.slice) == (task, metric, part)), None)

    def rows(self, task: str | None, metric: str, prefix: str = "") -> list[Metric]:
        """The rows of a metric whose slice begins with a prefix."""
        return [m for m in self.metrics if (m.task, m.metric) == (task, metric) and m.slice.startswith(prefix)]


def write_tables(folder: str, evaluation: Evaluation, run_id: str, model_digest: str) -> tuple[str, str]:
    """Writes the metrics and the wrong answers into a folder; returns the paths of both files."""
    metrics = check(to_table(evaluation.metrics, run_id, model_digest), METRICS)
    names = (f"{folder}/{METRICS_FILE}", f"{folder}/{WRONG_FILE}")
    for name, content in zip(names, (metrics, evaluation.wrong), strict=True):
        with storage_for(name).writer(name) as file:
            pq.write_table(content, file, compression="zstd")
    return names
