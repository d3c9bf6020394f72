"""Texts in which people marked entities, as gold for a run that finds them: BRAT, IOB2, GENIA, or tables."""

from dataclasses import replace

import polars as pl

from engine.errors import ConfigError
from engine.evaluation.gold import GoldConfig
from engine.evaluation.rows import check_parts
from engine.sources.labelled import GoldSpans, read_spans
from engine.sources.labelled.annotated import TABLES, annotated_files

_OWN = ("dataset", "split", "lang")


def read_marked(config: GoldConfig, like: str | None = None) -> GoldSpans:
    """The marked texts; their `records` have `group` and `slice_<name>` where gold has such a column.

    `group`, `slices` and `where` name what a document has (`dataset`, `split`, `lang`), or columns of tables, as `id` and
    `source` do.

    Args:
        like: the column of the run's ids, which counts where gold has it too and `id` names none.
    Raises:
        ConfigError: there is nothing to read, a column is missing, or no text is left.
    """
    try:
        tables = [file for file in annotated_files(config.path) if file.path.lower().endswith(TABLES)]
        known = config.schema_of(tables[0]).names if tables else []
        for key in ("id", "source"):
            if (name := getattr(config, key)) and name not in known:
                raise ConfigError(f"{key}: no table of {config.path} has a column '{name}'")
        gold = read_spans(replace(config, id=config.id or (like if like in known else None)))
    except ConfigError as error:
        raise error.with_key("gold") from None
    records = pl.DataFrame(gold.records.drop_columns(["text"]))
    own = {new: name for new, name in {"group": config.group, **config.more}.items() if name in _OWN}
    records = records.with_columns(pl.col(name).alias(new) for new, name in own.items())
    for name, value in config.where.items():
        if f"where_{name}" not in records.columns:
            raise ConfigError(f"where: gold has no column '{name}'; it has {', '.join([*_OWN, *known])}")
        records = records.filter(pl.col(f"where_{name}") == str(value))
    if not len(records):
        raise ConfigError(f"where: none of {len(gold.records):,} marked texts is chosen")
    parts = {f"slice_{name}": name for name in config.slices if f"slice_{name}" in records.columns}
    records = records.with_columns(pl.Series(new, check_parts(name, records[new])) for new, name in parts.items())
    return replace(gold, records=records.drop(f"where_{name}" for name in config.where).to_arrow())
