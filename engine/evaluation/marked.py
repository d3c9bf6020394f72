"""Texts in which people marked entities, as gold for a run that finds them: BRAT, IOB2, GENIA, or Parquet."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.evaluation.gold import check_parts
from engine.records import text_digest
from engine.sources.annotated import Broken, Left, from_table, read_documents
from engine.sources.base import TEXT, InputConfig
from engine.sources.files import input_base, list_files, source_of
from engine.storage import storage_for

_OWN = ("dataset", "split", "lang")
_IDS = ("record_id", "sentence_id", "doc_id", "id")


@dataclass(frozen=True)
class MarkedConfig:
    """Where marked texts are. `group`, `slices` and `where` name what a document has (`dataset`, `split`, `lang`), or columns of
    Parquet files; so do `id` and `source`, whose value and a colon stand in front of the id. `id_scope` "file" puts the file's
    own name there."""

    path: str
    id: str | None = None
    source: str | None = None
    id_scope: str = "input"
    group: str | None = None
    slices: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldSpans:
    """Usable texts of some datasets, and what is marked in each dataset.

    `records` has a row a text: `record_id`, `dataset`, `split`, `lang`, `text`, its `text_sha256` and `spans` (half-open `start`
    and `end` in characters, `type`, `group_id` where a mention lies in several pieces). `marked` has the types of each dataset:
    any other was not looked for there, so it is no error to find one. `broken` says which texts cannot be used, `coordinated` how
    many mentions of the records are coordinations, which become no span.
    """

    records: pa.Table
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0


def read_marked(config: MarkedConfig) -> GoldSpans:
    """The marked texts; their `records` have `group` and `slice_<name>` where gold has such a column.

    Raises:
        ConfigError: there is nothing to read, a column is missing, or no text is left.
    """
    try:
        gold = read_spans(config.path)
    except ConfigError as error:
        raise ConfigError(str(error).replace("data.path:", "gold:")) from None
    records = pl.DataFrame(gold.records.drop_columns(["text"]))
    asked = {name for name in (config.id, config.source, config.group, *config.slices, *config.where) if name}
    if asked - set(_OWN) or config.id_scope == "file":
        records = records.join(_beside(config, asked), on="record_id", how="left", maintain_order="left")
    for key in ("id", "source"):
        if (name := getattr(config, key)) and name not in records.columns:
            raise ConfigError(f"{key}: no Parquet file of {config.path} has a column '{name}'")
    for name, value in config.where.items():
        if name not in records.columns:
            raise ConfigError(f"where: gold has no column '{name}'; it has {', '.join(_OWN)}, and those of Parquet files")
        records = records.filter(pl.col(name).cast(pl.String) == str(value))
    if not len(records):
        raise ConfigError(f"where: none of {len(gold.records):,} marked texts is chosen")
    front = [pl.col(config.source).cast(pl.String)] if config.source else [pl.col("file")] * (config.id_scope == "file")
    name = pl.concat_str(*front, pl.col(config.id or "record_id").cast(pl.String), separator=":")
    extra = {f"slice_{each}": _part(each, records[each]) for each in config.slices if each in records.columns}
    if config.group in records.columns:
        extra["group"] = records[config.group].cast(pl.String)
    kept = records.select(name.alias("record_id"), *_OWN, "text_sha256", "spans").with_columns(**extra)
    return replace(gold, records=kept.to_arrow())


def _part(name: str, values: pl.Series) -> pl.Series:
    return pl.Series(check_parts(name, values.to_arrow()))


def _beside(config: MarkedConfig, names: set[str]) -> pl.DataFrame:
    """Further columns of Parquet files by the ids of their documents, and the file that each stands in."""
    listing = InputConfig(config.path, None, format=TEXT)
    base = input_base(listing)
    tables = []
    for entry in list_files(listing, storage_for(config.path)):
        if not entry.path.lower().endswith((".parquet", ".pq")):
            continue
        with storage_for(config.path).open(entry.path, entry) as stream:
            file = pq.ParquetFile(stream)
            known = file.schema_arrow.names
            own = next((each for each in _IDS if each in known), None)
            if own is None:
                raise ConfigError(f"gold: {source_of(entry, base)} has none of the columns {', '.join(_IDS)}; name its ids so")
            table = pl.DataFrame(file.read([own, *sorted(name for name in names if name in known and name != own)]))
        extra = [] if own == "record_id" else [pl.col(own).alias("record_id")]
        tables.append(
            table.with_columns(*extra, file=pl.lit(source_of(entry, base))).with_columns(pl.col("record_id").cast(pl.String))
        )
    if not tables:
        return pl.DataFrame(schema={"record_id": pl.String, "file": pl.String})
    whole = pl.concat(tables, how="diagonal_relaxed")
    return whole.select(
        "record_id", "file", *(name for name in names if name in whole.columns and name not in ("record_id", *_OWN))
    )


def read_spans(path: str) -> GoldSpans:
    """Reads what `read_documents` reads."""
    left = Left()
    table = read_documents(path, left)
    documents = from_table(table)
    records = table.filter(pc.field("failure").is_null()).drop_columns(["failure"])
    digests = pa.array([text_digest(text) for text in records["text"].to_pylist()], pa.binary(32))
    types: dict[str | None, set[str]] = {}
    for document in documents:
        if not document.broken:
            types.setdefault(document.dataset, set()).update(span.type for span in document.spans)
    marked = {name: frozenset(kinds) for name, kinds in types.items()}
    coordinated = left.count(set(records["record_id"].to_pylist()), frozenset().union(*marked.values()))
    return GoldSpans(records.append_column("text_sha256", digests), marked, Broken.of(documents), coordinated)
