"""What the tests of every format need: the whole way from a path to records."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pytest

from engine.records import check, records_schema
from engine.sources import InputConfig, Shard, cut, from_json, keep_fields, list_files, read, to_json
from engine.storage import LocalStorage


@dataclass(frozen=True)
class Loaded:
    """An input as the pipeline would see it."""

    shards: list[Shard]
    tables: list[pa.Table]

    @property
    def rows(self) -> list[dict]:
        return [row for table in self.tables for row in table.to_pylist()]

    @property
    def texts(self) -> list[str | None]:
        return [row["text"] for row in self.rows]

    @property
    def images(self) -> list[list[str] | None]:
        """The names of each study's images."""
        return [row["images"] and [image["source"] for image in row["images"]] for row in self.rows]

    @property
    def ids(self) -> list[str]:
        return [row["record_id"] for row in self.rows]

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(row["source"], row["position"]) for row in self.rows]

    @property
    def failures(self) -> list[tuple[str, str] | None]:
        return [row["failure"] and (row["failure"]["kind"], row["failure"]["detail"]) for row in self.rows]


def load_input(path: object, shard_bytes: int = 1 << 20, id: str | None = None, **settings: object) -> Loaded:
    """Lists, checks, cuts and reads; every table has the contract's schema and as many rows as its shard said."""
    storage = LocalStorage()
    config = InputConfig(str(path), id, **settings)
    files = list_files(config, storage)
    keep = keep_fields(config, storage, files)
    shards = [from_json(to_json(shard)) for shard in cut(config, storage, files, shard_bytes)]
    tables = [check(read(config, storage, shard, keep), records_schema(keep, config.reads)) for shard in shards]
    for shard, table in zip(shards, tables, strict=True):
        assert table.num_rows == shard.rows
        assert table["row"].to_pylist() == list(range(table.num_rows))
        if config.payload is not None:
            assert all((row[config.reads] is None) == (row["failure"] is not None) for row in table.to_pylist())
    return Loaded(shards, tables)


@pytest.fixture(scope="session")
def load() -> Callable[..., Loaded]:
    return load_input
