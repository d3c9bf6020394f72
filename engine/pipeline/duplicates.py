"""Finds repeated ids, out of core: the first record in plan order keeps an id, the later ones are listed here."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from engine.errors import RetryableError

# The columns to search: the shard's number in plan order, the row within its file, and the record's identity.
_TYPES = {"shard": pa.int32(), "row": pa.int32(), "record_id": pa.string(), "source": pa.string(), "position": pa.int64()}
IDS = pa.schema(list(_TYPES.items()))
_BATCH = 10_000


@dataclass(frozen=True)
class Duplicate:
    """A row whose id was taken, and the unique one that it gets: `<source>#<position>`."""

    shard: int
    row: int
    new_id: str


@contextmanager
def later(
    ids: Iterable[pa.RecordBatch], published: Iterable[pa.RecordBatch], folder: str, memory: int
) -> Iterator[Iterator[Duplicate]]:
    """Every row of `ids` whose id an earlier row or a published one has, by shard and row.

    Args:
        ids: batches of `IDS`, in any order.
        published: batches with `record_id`.
        folder: an existing local folder for what exceeds `memory` bytes. It may lie on a share without record locks.
    Raises:
        RetryableError: no space left, or too little memory.
    """
    settings = {"memory_limit": f"{memory // 2**20}MiB", "threads": 2, "preserve_insertion_order": False}
    try:
        # A database in a file wants a lock on it, which not every share has. One in memory spills just as well.
        with duckdb.connect(config={**settings, "temp_directory": f"{folder}/spill"}) as database:
            _load(database, "ids", pa.RecordBatchReader.from_batches(IDS, ids))
            _load(database, "old", pa.RecordBatchReader.from_batches(pa.schema([IDS.field("record_id")]), published))
            database.execute("CREATE VIEW every AS SELECT record_id FROM ids UNION ALL SELECT record_id FROM old")
            database.execute("CREATE TABLE twice AS SELECT record_id FROM every GROUP BY record_id HAVING count(*) > 1")
            database.execute(_LATER)
            # The input may hold the very id that is generated here; then that one gets longer.
            while database.execute("SELECT count(*) FROM every WHERE record_id IN (SELECT new_id FROM later)").fetchone()[0]:
                database.execute("UPDATE later SET new_id = new_id || '#'")
            yield _stream(database)
    except duckdb.Error as error:
        raise RetryableError(
            f"looking for duplicate ids needs more disk or memory than there is ({type(error).__name__}); "
            "free some, or raise output.memory_gb, and run the same command again"
        ) from None


_LATER = """
CREATE TABLE later AS
SELECT shard, row, source || '#' || position AS new_id
FROM (
    SELECT *, row_number() OVER (PARTITION BY record_id ORDER BY shard, row) AS nth
    FROM ids WHERE record_id IN (SELECT record_id FROM twice)
)
WHERE nth > 1 OR record_id IN (SELECT record_id FROM old)
"""


def _load(database: duckdb.DuckDBPyConnection, name: str, reader: pa.RecordBatchReader) -> None:
    database.register("reader", reader)
    database.execute(f"CREATE TABLE {name} AS SELECT * FROM reader")
    database.unregister("reader")


def _stream(database: duckdb.DuckDBPyConnection) -> Iterator[Duplicate]:
    cursor = database.execute("SELECT shard, row, new_id FROM later ORDER BY shard, row")
    while rows := cursor.fetchmany(_BATCH):
        yield from (Duplicate(*row) for row in rows)
