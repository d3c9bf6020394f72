"""Tokenized examples on disk: what a training reads instead of the reports.

Shards are Parquet files of a few hundred examples. Which shard a training example is in depends on its id alone, by a sort of all
ids' seeds out of core, so that every shard is a random sample of the corpus whatever order the input has. Reports of valid keep
the input's order. `index.json` is written last and says what there is: without it there is nothing.
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
    """Examples of a shard, where `held` are in memory at a time."""
    return max(1, min(_ROWS, held // 16))


def write_shards(
    tables: Iterable[pa.Table], schema: pa.Schema, folder: str, scratch: Path, rows: int, facts: Mapping[str, Any]
) -> Index:
    """Sorts tokenized examples into shards of `rows`.

    Args:
        tables: of `schema`, which begins with `COMMON`, always in the same order. folder: where the shards go, on any storage.
        scratch: a folder on this machine for what is being sorted.
    Raises:
        RetryableError: no space left.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {"memory_limit": _MEMORY, "threads": 1, "preserve_insertion_order": False, "temp_directory": f"{scratch}/spill"}
    try:
        # A database in a file wants a lock on it, which not every share has. One in memory spills just as well.
        with duckdb.connect(config=settings) as database:
            stored = pa.schema([*schema, pa.field("key", pa.int64()), pa.field("place", pa.int64())])
            # One by one: an error of theirs would come out of a reader as one of the database, with all that it quotes.
            database.register("given", stored.empty_table())
            database.execute("CREATE TABLE examples AS SELECT * FROM given")
            for table in _keyed(tables, stored):
                database.register("given", table)
                database.execute("INSERT INTO examples SELECT * FROM given")
            database.unregister("given")
            train = [_put(folder, f"train-{n:05d}", each) for n, each in enumerate(_sorted(database, schema, "train", rows))]
            valid = [_put(folder, f"valid-{n:05d}", each) for n, each in enumerate(_sorted(database, schema, "valid", rows))]
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise RetryableError(
            f"sorting the examples needs more disk or memory than there is ({type(error).__name__}); "
            "free some, and run the same command again"
        ) from None
    counts = {"reports": [n for n, _ in train], "samples": [n for _, n in train], "valid": [n for n, _ in valid]}
    return _index(folder, {**counts, "facts": facts})


def write_whole(tables: Iterable[pa.Table], schema: pa.Schema, folder: str, facts: Mapping[str, Any]) -> Index:
    """Writes examples of `schema` as one file, in the order in which they come."""
    counts = {"reports": 0, "samples": 0, "valid": 0}
    with storage_for(folder).writer(f"{folder}/all-00000.parquet") as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table)
            for split, sample in zip(table["split"].to_pylist(), table["sample"].to_pylist(), strict=True):
                counts["valid" if split == "valid" else "samples" if sample else "reports"] += 1
    return _index(folder, {**{name: [count] for name, count in counts.items()}, "facts": facts})


def _index(folder: str, values: Mapping[str, Any]) -> Index:
    """Says that examples are whole; last of all, since without it there is nothing."""
    data = json.dumps(values).encode()
    storage_for(folder).create(f"{folder}/{INDEX}", data)
    return Index.of(json.loads(data))


def _keyed(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
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
    wanted = pa.schema([field for field in schema if field.name != "split"])
    columns = ", ".join(f'"{name}"' for name in wanted.names)
    found = database.sql(f"SELECT {columns} FROM examples WHERE split = ? ORDER BY {by}", params=[split])
    held: list[pa.RecordBatch] = []
    waiting = 0
    for batch in found.to_arrow_reader(rows):
        held.append(batch)
        waiting += len(batch)
        while waiting >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows).cast(wanted)
            held, waiting = table.slice(rows).to_batches(), waiting - rows
    if waiting:
        yield pa.Table.from_batches(held).cast(wanted)


def _put(folder: str, name: str, table: pa.Table) -> tuple[int, int]:
    """Writes a shard; returns its reports and samples."""
    sample = table["sample"]
    parts = table.filter(pc.invert(sample)), table.filter(sample)
    if len(parts[0]) + len(parts[1]) != len(table):
        raise ContractError("an example must say whether it is a sample")
    with storage_for(folder).writer(f"{folder}/{name}.parquet") as file:
        pq.write_table(pa.concat_tables(parts), file, compression="zstd")
    return len(parts[0]), len(parts[1])
