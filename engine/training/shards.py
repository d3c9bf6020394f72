"""Tokenized examples on disk: what a training reads instead of the reports.

Shards are Parquet files of a few hundred examples. Those of train are sorted, out of core, by the seeds of their ids: each
shard is a random sample of the corpus and does not depend on the order of the input. Those of valid keep that order.
`index.json` is written last; a folder without it counts as empty.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ContractError, RetryableError
from engine.models.examples import INDEX, Index
from engine.records import seed_of
from engine.storage import storage_for

_ROWS = 512
_MEMORY = "256MiB"


def shard_rows(held: int) -> int:
    """Examples per shard, if `held` of them are in memory at a time."""
    return max(1, min(_ROWS, held // 16))


def write_shards(
    tables: Iterable[pa.Table], schema: pa.Schema, folder: str, scratch: Path, rows: int, facts: Mapping[str, Any]
) -> Index:
    """Sorts tokenized examples into shards of `rows`.

    Args:
        tables: of `schema`, which begins with `COMMON`, always in the same order. folder: where the shards go, on any storage.
        scratch: a folder on this machine for sorting.
    Raises:
        RetryableError: no space left.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {"memory_limit": _MEMORY, "threads": 1, "preserve_insertion_order": False, "temp_directory": f"{scratch}/spill"}
    try:
        # A database in a file wants a lock on it, which not every share has. One in memory spills just as well.
        with duckdb.connect(config=settings) as database:
            stored = pa.schema([*schema, pa.field("key", pa.int64()), pa.field("place", pa.int64())])
            # Table by table: an error raised inside a reader would become one of the database, with all that it quotes.
            database.register("batch", stored.empty_table())
            database.execute("CREATE TABLE examples AS SELECT * FROM batch")
            for table in _keyed(tables, stored):
                database.register("batch", table)
                database.execute("INSERT INTO examples SELECT * FROM batch")
            database.unregister("batch")
            train, valid = (
                [_put(folder, f"{split}-{n:05d}", shard) for n, shard in enumerate(_sorted(database, schema, split, rows))]
                for split in ("train", "valid")
            )
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise RetryableError(
            f"sorting the examples needs more disk or memory than there is ({type(error).__name__}); "
            "free some, and run the same command again"
        ) from None
    counts = {"reports": [n for n, _ in train], "samples": [n for _, n in train], "valid": [n for n, _ in valid]}
    return _index(folder, {**counts, "facts": facts})


def write_whole(tables: Iterable[pa.Table], schema: pa.Schema, folder: str, facts: Mapping[str, Any]) -> Index:
    """Writes examples of `schema` as one file, in the order given."""
    counts = {"reports": 0, "samples": 0, "valid": 0}
    with storage_for(folder).writer(f"{folder}/all-00000.parquet") as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table)
            for split, sample in zip(table["split"].to_pylist(), table["sample"].to_pylist(), strict=True):
                counts["valid" if split == "valid" else "samples" if sample else "reports"] += 1
    return _index(folder, {**{name: [count] for name, count in counts.items()}, "facts": facts})


def _index(folder: str, values: Mapping[str, Any]) -> Index:
    """Writes the index, which makes the examples count; last of all."""
    data = json.dumps(values).encode()
    storage_for(folder).create(f"{folder}/{INDEX}", data)
    return Index.of(json.loads(data))


def _keyed(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The tables with the columns that they are sorted by."""
    place = 0
    for table in tables:
        key = np.array([seed_of(name, "shard") for name in table["record_id"].to_pylist()], np.int64)
        table = table.append_column("key", pa.array(key))
        table = table.append_column("place", pa.array(np.arange(place, place + len(table))))
        place += len(table)
        yield table.cast(schema)


def _sorted(database: duckdb.DuckDBPyConnection, schema: pa.Schema, split: str, rows: int) -> Iterator[pa.Table]:
    """The examples of a split, `rows` at a time."""
    by = "key, place" if split == "train" else "place"
    shard_schema = pa.schema([field for field in schema if field.name != "split"])
    columns = ", ".join(f'"{name}"' for name in shard_schema.names)
    query = database.sql(f"SELECT {columns} FROM examples WHERE split = ? ORDER BY {by}", params=[split])
    rest = shard_schema.empty_table()
    for batch in query.to_arrow_reader(rows):
        rest = pa.concat_tables([rest, pa.Table.from_batches([batch]).cast(shard_schema)])
        while len(rest) >= rows:
            yield rest.slice(0, rows)
            rest = rest.slice(rows)
    if len(rest):
        yield rest


def _put(folder: str, name: str, table: pa.Table) -> tuple[int, int]:
    """Writes a shard; returns its reports and samples."""
    sample = table["sample"]
    parts = table.filter(pc.invert(sample)), table.filter(sample)
    if len(parts[0]) + len(parts[1]) != len(table):
        raise ContractError("an example must say whether it is a sample")
    with storage_for(folder).writer(f"{folder}/{name}.parquet") as file:
        pq.write_table(pa.concat_tables(parts), file, compression="zstd")
    return len(parts[0]), len(parts[1])
