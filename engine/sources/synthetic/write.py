"""Writes a corpus into a folder, and continues one that was interrupted.

    <path>/.corpus.json                    what the corpus was made with; written first
    <path>/corpus-00000.parquet ...        or .csv, .jsonl
    <path>/texts/00000/syn-7-00000042.txt  for text, with the gold in <path>/gold/gold-00000.parquet

Files are whole or absent and hold a fixed range of records, so that whatever is there is right and whatever is missing is
made. The hidden file is no part of an input: the folder itself can be given to a job.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from engine.keys import MISSING, check_keys, key
from engine.sources.synthetic import encode, unreportable
from engine.sources.synthetic.generate import Settings, blocks
from engine.sources.synthetic.unreportable import Unreportable
from engine.storage import Storage, storage_for
from engine.storage.claim import Kind, claim

# Before there were two corpora, nobody had to say which one it was.
_CORPUS = Kind(
    "corpus",
    "holds another corpus ({changes}); name a new folder",
    "{name} is {before}, not {now}",
    note=".corpus.json",
    under="",
    first="corpus",
    assumed={"corpus": "reports"},
)
# Of the reports: raised whenever the same settings give other records.
EDITION = 1
_WRITERS = 32


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and where it goes. Of reports the kinds of damage are those that the format can hold.

    Raises:
        ConfigError: a value outside its range.
    """

    path: str = key(MISSING, "Folder for the corpus; new, empty, or one with the same corpus.", at="output.path", path=True)
    records: int = key(2000, "How many reports or texts.", low=1)
    settings: Settings | Unreportable = field(default_factory=Settings)
    format: str = key("parquet", "What to write.", at="output.format", choices=encode.FORMATS)
    file_records: int = key(250_000, "Records in one file; for text, in one folder.", at="output.file_records", low=1)

    def __post_init__(self) -> None:
        check_keys(self)


@dataclass(frozen=True)
class CorpusSummary:
    """What was done: files in the corpus, records written now, and how long that took in seconds."""

    files: int
    written: int
    seconds: float


def write(config: CorpusConfig) -> CorpusSummary:
    """Makes the corpus, as far as it is not there.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        RetryableError: no space left.
    """
    storage = storage_for(config.path)
    make = _maker(config)
    claim(config.path, _described(config), _CORPUS)
    began, written, files = time.monotonic(), 0, 0
    for number, start in enumerate(range(0, config.records, config.file_records)):
        files += 1
        stop = min(start + config.file_records, config.records)
        path = _name(config, number)
        if storage.stat(path) is not None:
            continue
        _write_file(config, storage, path, number, make(start, stop))
        written += stop - start
    return CorpusSummary(files, written, time.monotonic() - began)


def _maker(config: CorpusConfig) -> Callable[[int, int], Iterator[pa.Table]]:
    """What makes the records from one number to another."""
    if isinstance(config.settings, Unreportable):
        return partial(unreportable.blocks, config.settings)
    return partial(blocks, replace(config.settings, kinds=encode.kinds(config.format)))


def _described(config: CorpusConfig) -> dict:
    reports = isinstance(config.settings, Settings)
    corpus = {"corpus": "reports", "edition": EDITION} if reports else {"corpus": "unreportable", "edition": unreportable.EDITION}
    described = corpus | {"records": config.records, "format": config.format, "file_records": config.file_records}
    # The kinds of damage follow from the format.
    return described | {key: value for key, value in asdict(config.settings).items() if key != "kinds"}


def _name(config: CorpusConfig, number: int) -> str:
    """The file whose being there says that its records are written; for texts the gold, which comes last."""
    if config.format == "text":
        return f"{config.path}/gold/gold-{number:05d}.parquet"
    return f"{config.path}/corpus-{number:05d}.{config.format}"


def _write_file(config: CorpusConfig, storage: Storage, path: str, number: int, tables: Iterator[pa.Table]) -> None:
    if config.format == "text":
        tables = (_write_texts(config, storage, number, each) for each in tables)
    with storage.writer(path) as file:
        if config.format in ("parquet", "text"):
            first = next(tables)
            with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
                writer.write_table(first)
                for each in tables:
                    writer.write_table(each)
            return
        for at, each in enumerate(tables):
            file.write(encode.csv_bytes(each, header=at == 0) if config.format == "csv" else encode.jsonl_bytes(each))


def _write_texts(config: CorpusConfig, storage: Storage, number: int, block: pa.Table) -> pa.Table:
    """Writes a file a record; gives back the gold, under the ids that the records will have as an input."""
    names = [f"{number:05d}/{each}.txt" for each in block["record_id"].to_pylist()]

    def write_text(name: str, raw: bytes) -> None:
        with storage.writer(f"{config.path}/texts/{name}") as file:
            file.write(raw)

    # Each file is synced: many at once wait for the disk together.
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write_text, names, encode.raw_texts(block)))
    gold = block.drop_columns("text")
    return gold.set_column(0, "record_id", pa.array(names, pa.string()))
