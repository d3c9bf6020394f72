"""Columns in the names of folders, as Hive and Spark write them: `year=2024/hospital=A%20B/part-0.parquet`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from urllib.parse import unquote

import pyarrow as pa

from engine.errors import ConfigError
from engine.sources.base import InputConfig, Slice
from engine.sources.column_types import cast_column

_NULL = "__HIVE_DEFAULT_PARTITION__"


def folder_columns(source: str) -> list[tuple[str, str | None]]:
    """Names and values from the folders of a file, outermost first."""
    pairs = [folder.split("=", 1) for folder in source.split("/")[:-1] if "=" in folder]
    return [(_plain(name), None if value == _NULL else _plain(value)) for name, value in pairs]


def kept_of(config: InputConfig, source: str) -> dict[str, str | None]:
    """The kept columns in the folders of a file, with their values.

    Raises:
        ConfigError: two folders have the same column.
    """
    pairs = folder_columns(source)
    names = [name for name, _ in pairs]
    for name in config.keep:
        if names.count(name) > 1:
            raise ConfigError(f"input.keep: {source} is in two folders named '{name}=...'; rename one")
    return {name: value for name, value in pairs if name in config.keep}


def without(config: InputConfig, names: Collection[str]) -> InputConfig:
    """The config for the files themselves, without the kept columns in their folders."""
    return replace(config, keep=tuple(name for name in config.keep if name not in names)) if names else config


def grouped(config: InputConfig, slices: Iterable[Slice]) -> Iterator[tuple[dict[str, str | None], list[Slice]]]:
    """Runs of slices with the same values from their folders, with those values."""
    for values, pieces in groupby(slices, key=lambda piece: kept_of(config, piece.source)):
        yield values, list(pieces)


def with_values(records: pa.Table, values: dict[str, str | None], keep: Sequence[pa.Field]) -> pa.Table:
    """Adds the values of the folders to the kept columns of records."""
    kept = records["keep"].combine_chunks()
    columns = [
        cast_column(pa.array([values[field.name]] * len(records), pa.string()), field)
        if field.name in values
        else kept.field(field.name)
        for field in keep
    ]
    at = records.schema.get_field_index("keep")
    return records.set_column(at, "keep", pa.StructArray.from_arrays(columns, fields=list(keep)))


def refuse_doubled(names: Iterable[str], from_folders: Collection[str], where: str) -> None:
    """Checks that a file has no column that is also in its folders, since either value may be right.

    Args:
        from_folders: the kept columns in its folders.
    Raises:
        ConfigError: it has one.
    """
    for name in names:
        if name in from_folders:
            raise ConfigError(
                f"input.keep: {where} has a column '{name}' and is in a folder '{name}=...'; rename one, or do not keep it"
            )


def _plain(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return part
