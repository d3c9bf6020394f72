"""What a benchmark works on: synthetic reports or a sample of the user's own, or synthetic radiographs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.benchmarks.config import BenchConfig
from engine.errors import ConfigError
from engine.models.run import image_records_of, records_of
from engine.records import IMAGES, seed_of, text_digest
from engine.sources import InputConfig
from engine.sources.synthetic import dermatology, generate, radiographs


@dataclass(frozen=True)
class Size:
    """Of a record: words of a report, or pixels a side of a radiograph."""

    words: int
    pixels: int


LONG, SHORT = Size(500, 320), Size(100, 64)
# How radiographs are stored.
PARQUET, FILES = "parquet", "files"
_SEED = 11
# Records in memory at a time.
_STEP = 2000


def made_up(reads: str, count: int, size: Size, start: int = 0) -> pa.Table:
    """`record_id` with `text` or `image` of `count` synthetic records, from number `start` on."""
    if reads == IMAGES:
        made = radiographs.generate(count, _SEED, start=start, pixels=size.pixels)
        return made.select(["record_id", "image"])
    return generate(count, _SEED, start=start, median_words=size.words).select(["record_id", "text"])


def made_up_in(language: str, count: int, words: int) -> pa.Table:
    """Synthetic texts in a language, as `made_up`; Chinese texts are records of a dermatology, as long as those are.

    Raises:
        ConfigError: no texts are made up in the language.
    """
    if language == "en":
        return made_up("text", count, Size(words, 0))
    if language == "zh":
        return dermatology.generate(count, _SEED).select(["record_id", "text"])
    raise ConfigError(f"no texts are made up in the language '{language}', only in en and zh")


def pieces(reads: str, count: int, size: Size) -> Iterator[pa.Table]:
    """`made_up` in tables of a moderate size."""
    return (made_up(reads, min(_STEP, count - at), size, at) for at in range(0, count, _STEP))


def sample(config: BenchConfig, count: int, size: Size) -> pa.Table:
    """`count` records as `made_up`, or a sample of the input that depends on its texts alone.

    Raises:
        ConfigError: the input has too few readable reports.
    """
    if config.input is None:
        return made_up(config.reads, count, size)
    from engine import sources
    from engine.storage import storage_for

    reader = storage_for(config.input.path)
    files = list(sources.list_files(config.input, reader))
    by_digest: dict[bytes, str] = {}
    for shard in sources.cut(config.input, reader, files, 8 * 2**20):
        texts = sources.read(config.input, reader, shard, [])["text"].to_pylist()
        by_digest |= {text_digest(text): text for text in texts if text is not None}
    if len(by_digest) < count:
        raise ConfigError(
            f"bench: the input has {len(by_digest)} different readable reports, {count} are needed; lower the sizes"
        )
    chosen = sorted(by_digest, key=lambda digest: seed_of(digest.hex(), "bench"))[:count]
    texts = pa.array([by_digest[digest] for digest in chosen], pa.large_string())
    return pa.table({"record_id": [f"bench-{i}" for i in range(count)], "text": texts})


def as_records(table: pa.Table) -> pa.Table:
    """A sample as the records of a source."""
    ids = [f"bench-{number}" for number in range(len(table))]
    if "image" in table.column_names:
        return image_records_of(ids, ([data] for data in table["image"].to_pylist()))
    return records_of(ids, table["text"].to_pylist())


def write(folder: Path, tables: Iterable[pa.Table], rows: int, form: str = PARQUET) -> None:
    """Writes tables of one schema as a folder: as one Parquet file in row groups of `rows`, or as a file for each image."""
    folder.mkdir(parents=True)
    tables = iter(tables)
    if form == FILES:
        for row in chain.from_iterable(table.to_pylist() for table in tables):
            (folder / f"{row['record_id']}.png").write_bytes(row["image"])
        return
    first = next(tables)
    with pq.ParquetWriter(folder / "records.parquet", first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table, row_group_size=rows)


def input_of(reads: str, path: str, form: str = PARQUET) -> InputConfig:
    """How a job reads what `write` wrote."""
    return InputConfig(path=path, id="record_id" if form == PARQUET else None, text="text", reads=reads)
