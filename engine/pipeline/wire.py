"""How a shard travels between stages: one row a shard, its tables as Arrow bytes.

A row cannot be split or merged, so a shard stays whole whatever blocks Ray makes, and an empty shard is still a row.
An error travels as a row too: raised inside a Ray task it would be logged with everything that it quotes.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from engine import errors
from engine.errors import ContractError, EngineError

TODO, ISOLATE, PREPARED, CODED, ERROR = "todo", "isolate", "prepared", "coded", "error"

SCHEMA = pa.schema(
    [
        pa.field("state", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("plan", pa.string()),
        pa.field("facts", pa.string(), nullable=False),
        pa.field("meta", pa.large_binary()),
        pa.field("body", pa.large_binary()),
    ]
)


_TABLES = ("meta", "body")


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
    """A row a parcel; an Arrow table becomes the bytes of its stream, without a second copy."""
    return pa.concat_tables([_row(parcel) for parcel in parcels]) if parcels else SCHEMA.empty_table()


def unpack(table: pa.Table) -> list[Parcel]:
    """The parcels of a block, of one made of an `order` too."""
    parcels = []
    for row in table.select([name for name in SCHEMA.names if name not in _TABLES]).to_pylist():
        index = len(parcels)
        tables = {name: from_bytes(table[name][index].as_buffer()) for name in _TABLES if name in table.column_names}
        parcels.append(Parcel(**{**row, "facts": json.loads(row["facts"])}, **tables))
    return parcels


def order(shard: str, plan: str, facts: dict[str, Any]) -> dict[str, str]:
    """A shard still to be coded, as an item of the dataset's beginning."""
    return {"state": TODO, "shard": shard, "plan": plan, "facts": json.dumps(facts)}


def error_of(facts: dict[str, Any]) -> EngineError:
    """The error that a parcel carries, as the class that it was."""
    kind = getattr(errors, facts.get("class", ""), None)
    known = isinstance(kind, type) and issubclass(kind, EngineError)
    return kind(facts["message"]) if known else ContractError(facts["message"])


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
    words = [parcel.state, parcel.shard, parcel.plan, json.dumps(parcel.facts)]
    columns = [pa.array([word], pa.string()) for word in words]
    return pa.Table.from_arrays([*columns, _binary(to_bytes(parcel.meta)), _binary(to_bytes(parcel.body))], schema=SCHEMA)


def _binary(data: pa.Buffer | None) -> pa.Array:
    if data is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])
