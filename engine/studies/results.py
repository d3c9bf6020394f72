"""Rows of figures, as every study writes them, and the per-text answers that comparisons draw from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.storage import whole_file

ALL = "all"
SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        # Null: the mean over the seeds, or a comparison.
        pa.field("seed", pa.int64()),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("slice", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
    ]
)
# Metadata of a file of rows: the digest of each arm (`Arm.key`) that it has.
_ARMS = b"arms"


@dataclass(frozen=True)
class Row:
    """One figure with its 95 % interval, the number `n` of records that it rests on, and what a reader must know of it.

    `slice` says which part of the records it is of, such as `type=Disease`, or what it is compared with.
    """

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    slice: str = ALL
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """What a measure gives: rows, and for comparisons over texts a table `answers` with `record_id`, `group` (texts of one group
    are drawn together) and columns that `engine.studies.compare` knows how to sum."""

    rows: Sequence[Row]
    answers: pa.Table | None = None


def table_of(study: str, corpus: str, arm: str, seed: int | None, rows: Iterable[Row]) -> pa.Table:
    place = {"study": study, "corpus": corpus, "arm": arm, "seed": seed}
    return pa.Table.from_pylist([{**place, **asdict(row)} for row in rows], schema=SCHEMA)


def write(file: Path, table: pa.Table, arms: Mapping[str, str]) -> None:
    """Writes rows, whole or not at all, with the digests of their arms."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        pq.write_table(table.replace_schema_metadata({_ARMS: json.dumps(arms)}), part, compression="zstd")


def read(file: Path) -> tuple[pa.Table, dict[str, str]]:
    """Rows of a file and the digests of their arms; none of either where there is no file."""
    if not file.is_file():
        return SCHEMA.empty_table(), {}
    table = pq.read_table(file)
    arms = json.loads((table.schema.metadata or {}).get(_ARMS, b"{}"))
    return table.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata(None), arms
