"""How a shard travels between stages: one row a shard, its tables as Arrow bytes.

A row cannot be split or merged, so a shard stays whole whatever blocks Ray makes, and an empty shard is still a row. An error
travels as a row too: an exception inside a Ray task would be logged with all that it quotes.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from engine import errors
from engine.errors import ContractError, EngineError

TODO, ISOLATE, PREPARED, CODED, ERROR = "todo", "isolate", "prepared", "coded", "error"

_TEXTS, _TABLES = ("state", "shard", "plan", "facts"), ("meta", "body")
SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=name == "plan") for name in _TEXTS]
    + [pa.field(name, pa.large_binary()) for name in _TABLES]
)


@dataclass(frozen=True)
class Parcel:
    """A shard on its way. `plan` is its JSON, `facts` are plain values for the receipt."""

    state: str
    shard: str
    plan: str | None
    facts: dict[str, Any]
    meta: pa.Table | None = None
    body: pa.Table | None = None

    def failed(self, error: EngineError) -> "Parcel":
        """The parcel as the error that ends the run."""
        facts = {"class": type(error).__name__, "message": str(error)}
        return replace(self, state=ERROR, facts=facts, plan=None, meta=None, body=None)


def pack(parcels: list[Parcel]) -> pa.Table:
    """One row for each parcel; an Arrow table becomes the bytes of its stream, without a second copy."""
    return pa.concat_tables([_row(parcel) for parcel in parcels]) if parcels else SCHEMA.empty_table()


def unpack(table: pa.Table) -> list[Parcel]:
    """The parcels of a block, also of one that consists of `order`s."""
    parcels = []
    for index, row in enumerate(table.select(_TEXTS).to_pylist()):
        tables = {name: from_bytes(table[name][index].as_buffer()) for name in _TABLES if name in table.column_names}
        parcels.append(Parcel(**{**row, "facts": json.loads(row["facts"])}, **tables))
    return parcels


def order(shard: str, plan: str, facts: dict[str, Any]) -> dict[str, str]:
    """A shard that is still to be coded, as an item of the dataset."""
    return {"state": TODO, "shard": shard, "plan": plan, "facts": json.dumps(facts)}


def error_of(facts: dict[str, Any]) -> EngineError:
    """The error that a parcel carries, in its own class."""
    kind = getattr(errors, facts.get("class", ""), None)
    ours = isinstance(kind, type) and issubclass(kind, EngineError)
    return (kind if ours else ContractError)(facts["message"])


def to_bytes(table: pa.Table | None) -> pa.Buffer | None:
    if table is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_bytes(data: pa.Buffer | bytes | None) -> pa.Table | None:
    return None if data is None else pa.ipc.open_stream(data).read_all()


def _row(parcel: Parcel) -> pa.Table:
    texts = [parcel.state, parcel.shard, parcel.plan, json.dumps(parcel.facts)]
    tables = [_binary(to_bytes(table)) for table in (parcel.meta, parcel.body)]
    return pa.Table.from_arrays([*(pa.array([text], pa.string()) for text in texts), *tables], schema=SCHEMA)


def _binary(data: pa.Buffer | None) -> pa.Array:
    if data is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])
