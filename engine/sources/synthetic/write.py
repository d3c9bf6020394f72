"""Writes a corpus into a folder, and continues one that was interrupted.

    <path>/.corpus.json                    settings of the corpus; written first
    <path>/corpus-00000.parquet ...        or .csv, .jsonl
    <path>/texts/00000/syn-7-00000042.txt  for text, with the gold in <path>/gold/gold-00000.parquet
    <path>/images/north/00000/rad-7-00000042.png
                                           for files, with <path>/manifest-00000.parquet, where `image` is the path below <path>

Files are whole or absent and hold a fixed range of records, so a second run makes only the missing ones. The settings file is
hidden, so the folder itself can be the input of a job.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.keys import MISSING, check_keys, key
from engine.sources.synthetic import dermatology, encode, radiographs, unreportable
from engine.sources.synthetic.dermatology import Dermatology
from engine.sources.synthetic.generate import EDITION, Settings, blocks
from engine.sources.synthetic.radiographs import Radiographs
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
    Radiographs: ("radiographs", radiographs.EDITION, radiographs.blocks),
}
_WRITERS = 32


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus and where it goes. Records get the kinds of damage that the format can hold.

    Raises:
        ConfigError: a value outside its range.
    """

    path: str = key(MISSING, "Folder for the corpus; new, empty, or one with the same corpus.", at="output.path", path=True)
    records: int = key(2000, "Number of reports, texts or images to write.", low=1)
    settings: Settings | Unreportable | Dermatology | Radiographs = field(default_factory=Settings)
    format: str = key("parquet", "What to write.", at="output.format", choices=encode.FORMATS)
    file_records: int = key(250_000, "Records in one file; for text and files, in one folder.", at="output.file_records", low=1)

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
        ConfigError: the format is not for this corpus; the folder holds something else, or cannot be written.
        RetryableError: no space left.
    """
    storage = storage_for(config.path)
    settings = config.settings
    name, edition, make_blocks = _CORPORA[type(settings)]
    formats = encode.IMAGE_FORMATS if isinstance(settings, Radiographs) else encode.TEXT_FORMATS
    if config.format not in formats:
        raise ConfigError(f"output.format: {config.format} is not for corpus={name}; wants one of {', '.join(formats)}")
    if isinstance(settings, Settings | Dermatology):
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
    """The file whose presence shows that its records are written; for texts and images the table, which comes last."""
    if config.format == "text":
        return f"{config.path}/gold/gold-{number:05d}.parquet"
    if config.format == "files":
        return f"{config.path}/manifest-{number:05d}.parquet"
    return f"{config.path}/corpus-{number:05d}.{config.format}"


def _write_file(config: CorpusConfig, storage: Storage, path: str, number: int, tables: Iterator[pa.Table]) -> None:
    if config.format == "text":
        tables = (_write_texts(config, storage, number, table) for table in tables)
    elif config.format == "files":
        tables = (_write_images(config, storage, number, table) for table in tables)
    with storage.writer(path) as file:
        if config.format in ("parquet", "text", "files"):
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
    _write_each(storage, [f"{config.path}/texts/{name}" for name in names], encode.raw_texts(block))
    gold = block.drop_columns("text")
    return gold.set_column(0, "record_id", pa.array(names, pa.string()))


def _write_images(config: CorpusConfig, storage: Storage, number: int, block: pa.Table) -> pa.Table:
    """Writes one file per image; returns the manifest, with paths in place of the images."""
    ids = zip(block["site"].to_pylist(), block["record_id"].to_pylist(), strict=True)
    names = [f"images/{site}/{number:05d}/{record_id}.png" for site, record_id in ids]
    _write_each(storage, [f"{config.path}/{name}" for name in names], block["image"].to_pylist())
    return block.set_column(block.column_names.index("image"), "image", pa.array(names, pa.string()))


def _write_each(storage: Storage, paths: Iterable[str], contents: Iterable[bytes]) -> None:
    def write_one(path: str, raw: bytes) -> None:
        with storage.writer(path) as file:
            file.write(raw)

    # Each file is synced; many at once share the wait for the disk.
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write_one, paths, contents))
