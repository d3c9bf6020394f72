"""The reports that a benchmark works on: synthetic, or a sample of the user's own."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.benchmarks.config import BenchConfig
from engine.errors import ConfigError
from engine.records import seed_of, text_digest
from engine.sources.synthetic import dermatology, generate

LONG_WORDS, SHORT_WORDS = 500, 100
_SEED = 11


def made_up(count: int, words: int, start: int = 0) -> pa.Table:
    """`record_id` and `text` of `count` synthetic reports of about `words` words, from number `start` on."""
    return generate(count, _SEED, start=start, median_words=words).select(["record_id", "text"])


def made_up_in(language: str, count: int, words: int) -> pa.Table:
    """`made_up` in a language; Chinese texts are records of a dermatology, as long as those are.

    Raises:
        ConfigError: no texts are made up in the language.
    """
    if language == "en":
        return made_up(count, words)
    if language == "zh":
        return dermatology.generate(count, _SEED).select(["record_id", "text"])
    raise ConfigError(f"no texts are made up in the language '{language}', only in en and zh")


def reports(config: BenchConfig, count: int, words: int) -> pa.Table:
    """`record_id` and `text` of `count` reports: synthetic ones, or a sample of the input that depends on the texts alone.

    Raises:
        ConfigError: the input has too few readable reports.
    """
    if config.input is None:
        return made_up(count, words)
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


def write(folder: Path, tables: Iterable[pa.Table], rows: int) -> None:
    """Writes tables of one schema as a folder with one Parquet file, in row groups of `rows`."""
    folder.mkdir(parents=True)
    tables = iter(tables)
    first = next(tables)
    with pq.ParquetWriter(folder / "reports.parquet", first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table, row_group_size=rows)
