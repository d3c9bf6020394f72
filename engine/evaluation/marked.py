"""Texts in which people marked entities, as gold for a run that finds them: BRAT, IOB2, GENIA, or Parquet."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from engine.errors import ConfigError
from engine.evaluation.gold import GoldConfig
from engine.evaluation.rows import check_parts, schema_of
from engine.sources.labelled import GoldSpans, Labelled, Reader, read_spans
from engine.sources.labelled.annotated import annotated_files
from engine.sources.labelled.parquet import IDS
from engine.storage import Entry

_OWN = ("dataset", "split", "lang")


def read_marked(config: GoldConfig, like: str | None = None) -> GoldSpans:
    """The marked texts; their `records` have `group` and `slice_<name>` where gold has such a column.

    `group`, `slices` and `where` name what a document has (`dataset`, `split`, `lang`), or columns of Parquet files, as `id` and
    `source` do.

    Args:
        like: the column of the run's ids, which counts where gold has it too and `id` names none.
    Raises:
        ConfigError: there is nothing to read, a column is missing, or no text is left.
    """
    try:
        files = [file for file in annotated_files(config.path) if file.path.lower().endswith((".parquet", ".pq"))]
        known = schema_of([files[0].path]).names if files else []
        ids = config.id or (like if like in known else None)
        gold = read_spans(config.path, id=ids)
    except ConfigError as error:
        raise error.under("gold") from None
    for key in ("id", "source"):
        if (name := getattr(config, key)) and name not in known:
            raise ConfigError(f"{key}: no Parquet file of {config.path} has a column '{name}'")
    records = pl.DataFrame(gold.records.drop_columns(["text"]))
    asked = [name for name in (config.group, *config.slices, *config.where) if name in known and name not in _OWN]
    if asked or config.source or (config.id_scope == "file" and known):
        ids = ids or next((name for name in IDS if name in known), None)
        if ids is None:
            raise ConfigError(f"id: {config.path} has none of the columns {', '.join(IDS)}; name the one with its ids")
        records = records.join(
            _beside(config, files, ids, asked), left_on="record_id", right_on="document", maintain_order="left"
        )
        records = records.drop("record_id").rename({"named": "record_id"})
    for name, value in config.where.items():
        if name not in records.columns:
            raise ConfigError(f"where: gold has no column '{name}'; it has {', '.join([*_OWN, *known])}")
        records = records.filter(pl.col(name) == str(value))
    if not len(records):
        raise ConfigError(f"where: none of {len(gold.records):,} marked texts is chosen")
    parts = [name for name in config.slices if name in records.columns]
    extra = {f"slice_{name}": pl.Series(check_parts(name, records[name])) for name in parts}
    if config.group in records.columns:
        extra["group"] = records[config.group]
    kept = records.select("record_id", *_OWN, "text_sha256", "spans").with_columns(**extra)
    return replace(gold, records=kept.to_arrow())


def _beside(config: GoldConfig, files: Sequence[Entry], ids: str, names: Sequence[str]) -> pl.DataFrame:
    """By each document's own id (`document`) the one that it is to have (`named`), and further columns as text."""
    more = {"document": ids, **{f"column_{name}": name for name in names}}
    labelled = Labelled(config.path, id=ids, source=config.source, id_scope=config.id_scope, more=more, names={"path": "gold"})
    rows = pl.DataFrame(pa.concat_tables(Reader(labelled, files).tables())).filter(pl.col("failure").is_null())
    return rows.select("document", *(pl.col(f"column_{name}").alias(name) for name in names), named="record_id")
