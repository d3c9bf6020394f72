"""From answers to the rows of a result table: joined by key, failed rows filled in, every promise checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ContractError
from engine.models.base import System
from engine.records import DECISIONS, FAILED, FAILURE, FAILURE_KINDS, check, system_columns, table_schema


def answers_schema(fields: Sequence[pa.Field]) -> pa.Schema:
    """`row`, `failure`, then a system's own columns, each of which is null where the row failed."""
    return pa.schema(
        [pa.field("row", pa.int32(), nullable=False), pa.field("failure", FAILURE), *(f.with_nullable(True) for f in fields)]
    )


def result_schema(system: System, keep: pa.Schema) -> pa.Schema:
    return table_schema(system.fields(), list(keep))


def keyed(table: pa.Table, name: str) -> list[int]:
    """The table's `row` keys, after checking that there is one a row and each once."""
    if "row" not in table.column_names:
        raise ContractError(f"{name} gave no column 'row'")
    rows = table["row"].to_pylist()
    if len(set(rows)) != len(rows) or None in rows:
        raise ContractError(f"{name} gave a row twice or without its key")
    return rows


def finish(system: System, keep: pa.Schema, run_id: str, meta: pa.Table, answers: pa.Table) -> pa.Table:
    """Joins the records of a shard with their answers.

    Args:
        keep: the columns that the records have in `keep`.
        meta: every record of the shard, without text; `failure` set where it could not be read or prepared.
        answers: one row for each record without such a failure, by `row`.
    Raises:
        ContractError: a record has no answer or two, or a row breaks the table's schema.
    """
    schema = result_schema(system, keep)
    expected = meta.filter(meta["failure"].is_null())["row"].to_pylist()
    if sorted(keyed(answers, "run")) != sorted(expected):
        raise ContractError("run gave answers for other records than it was asked for")
    meta = meta.sort_by("row")
    count = meta.num_rows
    at = pc.index_in(meta["row"], pa.array(answers["row"].to_pylist(), pa.int32()))
    answers = answers.take(at)
    failure = pc.coalesce(meta["failure"], answers["failure"])
    failed = failure.is_valid()
    columns = {}
    for field in system.fields():
        columns[field.name] = _fill(answers[field.name], failed, _blank(field))
    for name in ("record_id", "source", "position"):
        columns[name] = meta[name]
    columns["failure"] = failure
    columns["source_id"] = pa.nulls(count, pa.string())
    columns["run_id"] = pa.repeat(run_id, count)
    columns["model_digest"] = pa.repeat(system.digest, count)
    for index, field in enumerate(keep):
        columns[field.name] = pc.struct_field(meta["keep"], index) if count else pa.nulls(0, field.type)
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    return _checked(table, schema)


def as_duplicates(table: pa.Table, found: Mapping[int, str]) -> pa.Table:
    """Rows whose id was taken before, as failed rows: a new id, the given one in `source_id`, every answer null.

    Args:
        found: place in the table -> new id.
    """
    failed = pa.chunked_array([pa.array([index in found for index in range(table.num_rows)])])
    given = table["record_id"].to_pylist()
    kinds = pc.struct_field(table["failure"], "kind").to_pylist()
    failures = [
        {"kind": "duplicate_id", "detail": f"was {kinds[i]}" if kinds[i] else ""} if i in found else None
        for i in range(len(given))
    ]
    own = table.schema.names[1 : table.schema.names.index("failure")]
    columns = {name: _fill(table[name], failed, _blank(table.schema.field(name))) for name in own}
    columns["record_id"] = pa.array([found.get(index, name) for index, name in enumerate(given)])
    columns["source_id"] = pa.array([given[index] if index in found else None for index in range(len(given))], pa.string())
    columns["failure"] = pc.coalesce(pa.chunked_array([pa.array(failures, FAILURE)]), table["failure"])
    return check(pa.table([columns.get(name, table[name]) for name in table.schema.names], schema=table.schema), table.schema)


def tally(table: pa.Table) -> dict:
    """Counts of a result table: rows, by decision, by failure kind, by reason; and entities by type."""
    names = system_columns(table.column_names)
    counts = {
        "rows": table.num_rows,
        "decisions": _counts(table["decision"]),
        "failures": _counts(pc.struct_field(table["failure"], "kind")),
        "reasons": _counts(pc.list_flatten(table["reasons"])) if "reasons" in names else {},
        "entities": _counts(pc.struct_field(pc.list_flatten(table["entities"]), "type")) if "entities" in names else {},
    }
    if sum(counts["decisions"].values()) != counts["rows"] or set(counts["decisions"]) - set(DECISIONS):
        raise ContractError("rows are not the sum of auto, review, not_applicable and failed")
    return counts


def add(total: dict, counts: dict) -> dict:
    """Two tallies in one."""
    added = {"rows": total.get("rows", 0) + counts["rows"]}
    for name in ("decisions", "failures", "reasons", "entities"):
        ours, theirs = total.get(name, {}), counts[name]
        added[name] = {key: ours.get(key, 0) + theirs.get(key, 0) for key in sorted(ours.keys() | theirs.keys())}
    return added


def nan_rows(table: pa.Table) -> dict[int, str]:
    """`row` -> a column of it that holds a NaN, at any depth of lists and structs."""
    found: dict[int, str] = {}
    for name in table.column_names:
        for values, parents in _floats(table[name].combine_chunks(), None):
            bad = pc.indices_nonzero(pc.fill_null(pc.is_nan(values), False))
            if len(bad):
                at = bad if parents is None else parents.take(bad)
                found.update(dict.fromkeys(table["row"].take(at).to_pylist(), name))
    return found


def _floats(array: pa.Array, parents: pa.Array | None) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    kind = array.type
    if pa.types.is_floating(kind):
        yield array, parents
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _floats(child, parents)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        index = pc.list_parent_indices(array)
        yield from _floats(pc.list_flatten(array), index if parents is None else parents.take(index))


def _blank(field: pa.Field) -> Any:
    """What a failed row has in a system's column."""
    return {"decision": FAILED, "reasons": []}.get(field.name)


def _fill(values: pa.ChunkedArray, failed: pa.ChunkedArray, blank: Any) -> pa.ChunkedArray:
    # Through take and not if_else, which does not know every nested type.
    whole = pa.concat_arrays([*values.chunks, pa.array([blank], values.type)])
    index = pc.if_else(failed, pa.scalar(len(values), pa.int64()), pa.array(range(len(values)), pa.int64()))
    return pa.chunked_array([whole.take(index.combine_chunks())])


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(values.drop_null()).to_pylist()}


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    check(table, schema)
    failed = pc.equal(table["decision"], FAILED)
    if not pc.equal(failed, table["failure"].is_valid()).combine_chunks().true_count == table.num_rows:
        raise ContractError("a row is failed without its failure, or the other way round")
    kinds = set(_counts(pc.struct_field(table["failure"], "kind")))
    if kinds - set(FAILURE_KINDS):
        raise ContractError(f"unknown failure kind {sorted(kinds - set(FAILURE_KINDS))}")
    tally(table)
    return table
