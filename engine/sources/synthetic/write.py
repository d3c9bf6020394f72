"""Writes a corpus into a folder, and continues one that was interrupted.

    <path>/.corpus.json                    settings of the corpus; written first
    <path>/corpus-00000.parquet ...        or .csv, .jsonl
    <path>/texts/00000/syn-7-00000042.txt  for text, with the gold in <path>/gold/gold-00000.parquet

Files are whole or absent and hold a fixed range of records, so a second run makes only the missing ones. The settings file is
hidden, so the folder itself can be the input of a job.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from engine.keys import MISSING, check_keys, key
from engine.sources.synthetic import dermatology, encode, unreportable
from engine.sources.synthetic.dermatology import Dermatology
from engine.sources.synthetic.generate import EDITION, Settings, blocks
from engine.sources.synthetic.unreportable import Unreportable
from engine.storage import Storage, storage_for
from engine.storage.claim import Kind, claim

_CORPUS = Kind(
    "corpus", "holds another corpus ({changes}); name a new folder", "{name} is {before}, not {now}", note=".corpus.json"
)
# The corpora by their settings: name, edition, and what makes the records.
_CORPORA = {
    Settings: ("reports", EDITION, blocks),
    Unreportable: ("unreportable", unreportable.EDITION, unreportable.blocks),
    Dermatology: ("dermatology", dermatology.EDITION, dermatology.blocks),
}
_WRITERS = 32


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and where it goes. Records get the kinds of damage that the format can hold.

    Raises:
        ConfigError: a value outside its range.
    """

    path: str = key(MISSING, "Folder for the corpus; new, empty, or one with the same corpus.", at="output.path", path=True)
    records: int = key(2000, "Number of reports or texts to write.", low=1)
    settings: Settings | Unreportable | Dermatology = field(default_factory=Settings)
    format: str = key("parquet", "What to write.", at="output.format", choices=encode.FORMATS)
    file_records: int = key(250_000, "Records in one file; for text, in one folder.", at="output.file_records", low=1)

    def __post_init__(self) -> None:
        check_keys(self)


@dataclass(frozen=True)
class CorpusSummary:
    """Files in the corpus, records written by this call, and how long that took in seconds."""

    files: int
    written: int
    seconds: float


def write(config: CorpusConfig) -> CorpusSummary:
    """Writes the missing files of the corpus.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        RetryableError: no space left.
    """
    storage = storage_for(config.path)
    settings = config.settings
    name, edition, make_blocks = _CORPORA[type(settings)]
    if not isinstance(settings, Unreportable):
        settings = replace(settings, kinds=encode.kinds(config.format))
    # The kinds of damage follow from the format.
    values = {name: value for name, value in asdict(settings).items() if name != "kinds"}
    output = {"records": config.records, "format": config.format, "file_records": config.file_records}
    claim(config.path, {"corpus": name, "edition": edition} | output | values, _CORPUS)
    began, written, starts = time.monotonic(), 0, range(0, config.records, config.file_records)
    for number, start in enumerate(starts):
        stop = min(start + config.file_records, config.records)
        path = _file_name(config, number)
        if storage.stat(path) is None:
            _write_file(config, storage, path, number, make_blocks(settings, start, stop))
            written += stop - start
    return CorpusSummary(len(starts), written, time.monotonic() - began)


def _file_name(config: CorpusConfig, number: int) -> str:
    """The file whose presence shows that its records are written; for texts the gold, which comes last."""
    if config.format == "text":
        return f"{config.path}/gold/gold-{number:05d}.parquet"
    return f"{config.path}/corpus-{number:05d}.{config.format}"


def _write_file(config: CorpusConfig, storage: Storage, path: str, number: int, tables: Iterator[pa.Table]) -> None:
    if config.format == "text":
        tables = (_write_texts(config, storage, number, table) for table in tables)
    with storage.writer(path) as file:
        if config.format in ("parquet", "text"):
            first = next(tables)
            with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
                writer.write_table(first)
                for table in tables:
                    writer.write_table(table)
            return
        for index, table in enumerate(tables):
            file.write(encode.csv_bytes(table, header=index == 0) if config.format == "csv" else encode.jsonl_bytes(table))


def _write_texts(config: CorpusConfig, storage: Storage, number: int, block: pa.Table) -> pa.Table:
    """Writes one file per record; returns the gold, with the ids that the records will have as an input."""
    names = [f"{number:05d}/{record_id}.txt" for record_id in block["record_id"].to_pylist()]

    def write_text(name: str, raw: bytes) -> None:
        with storage.writer(f"{config.path}/texts/{name}") as file:
            file.write(raw)

    # Each file is synced; many at once share the wait for the disk.
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write_text, names, encode.raw_texts(block)))
    gold = block.drop_columns("text")
    return gold.set_column(0, "record_id", pa.array(names, pa.string()))
