"""From answers to rows of a result table: joined by key, failed rows completed, every promise checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ContractError
from engine.models.base import System
from engine.records import DECISIONS, FAILED, FAILURE, FAILURE_KINDS, check, system_columns, table_schema


def answers_schema(fields: Sequence[pa.Field]) -> pa.Schema:
    """`row`, `failure`, then the system's own columns, which are null if the row failed."""
    return pa.schema(
        [pa.field("row", pa.int32(), nullable=False), pa.field("failure", FAILURE), *(f.with_nullable(True) for f in fields)]
    )


def result_schema(system: System, keep: pa.Schema) -> pa.Schema:
    return table_schema(system.fields(), list(keep))


def keyed(table: pa.Table, name: str) -> list[int]:
    """The table's `row` keys, after checking that every row has one and none repeats."""
    if "row" not in table.column_names:
        raise ContractError(f"{name} gave no column 'row'")
    rows = table["row"].to_pylist()
    if len(set(rows)) != len(rows) or None in rows:
        raise ContractError(f"{name} gave a row twice or without its key")
    return rows


def finish(system: System, keep: pa.Schema, run_id: str, meta: pa.Table, answers: pa.Table) -> pa.Table:
    """Joins the records of a shard with their answers.

    Args:
        keep: the fields of the records' column `keep`.
        meta: every record of the shard, without text or images; `failure` is set if it could not be read or prepared.
        answers: by `row`, one for each record without such a failure.
    Raises:
        ContractError: a record has no answer or two, or a row breaks the table's schema.
    """
    schema = result_schema(system, keep)
    expected = meta.filter(meta["failure"].is_null())["row"].to_pylist()
    if sorted(keyed(answers, "run")) != sorted(expected):
        raise ContractError("run gave answers for other records than it was given")
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


def as_duplicates(table: pa.Table, new_ids: Mapping[int, str]) -> pa.Table:
    """The table with rows of repeated ids as failed rows: a new id, the original one in `source_id`, every answer null.

    Args:
        new_ids: row number -> new id.
    """
    failed = pa.chunked_array([pa.array([index in new_ids for index in range(table.num_rows)])])
    ids = table["record_id"].to_pylist()
    kinds = pc.struct_field(table["failure"], "kind").to_pylist()
    failures = [
        {"kind": "duplicate_id", "detail": f"was {kind}" if kind else ""} if index in new_ids else None
        for index, kind in enumerate(kinds)
    ]
    answers = table.schema.names[1 : table.schema.names.index("failure")]
    columns = {name: _fill(table[name], failed, _blank(table.schema.field(name))) for name in answers}
    columns["record_id"] = pa.array([new_ids.get(index, name) for index, name in enumerate(ids)])
    columns["source_id"] = pa.array([name if index in new_ids else None for index, name in enumerate(ids)], pa.string())
    columns["failure"] = pc.coalesce(pa.chunked_array([pa.array(failures, FAILURE)]), table["failure"])
    return check(pa.table([columns.get(name, table[name]) for name in table.schema.names], schema=table.schema), table.schema)


def tally(table: pa.Table) -> dict:
    """Counts of a result table: rows, by decision, by failure kind, by reason; and entities by type, or findings predicted
    positive by name."""
    names = system_columns(table.column_names)
    counts = {
        "rows": table.num_rows,
        "decisions": _counts(table["decision"]),
        "failures": _counts(pc.struct_field(table["failure"], "kind")),
        "reasons": _counts(pc.list_flatten(table["reasons"])) if "reasons" in names else {},
        "entities": _named(table, names),
    }
    if sum(counts["decisions"].values()) != counts["rows"] or set(counts["decisions"]) - set(DECISIONS):
        raise ContractError("rows are not the sum of auto, review, not_applicable and failed")
    return counts


def _named(table: pa.Table, names: Sequence[str]) -> dict[str, int]:
    if "entities" in names:
        return _counts(pc.struct_field(pc.list_flatten(table["entities"]), "type"))
    if "labels" in names:
        labels = pc.list_flatten(table["labels"])
        return _counts(pc.struct_field(labels, "name").filter(pc.equal(pc.struct_field(labels, "pred"), 1)))
    return {}


def add(total: dict, counts: dict) -> dict:
    """The sum of two tallies."""
    added = {"rows": total.get("rows", 0) + counts["rows"]}
    for name in ("decisions", "failures", "reasons", "entities"):
        one, other = total.get(name, {}), counts[name]
        added[name] = {key: one.get(key, 0) + other.get(key, 0) for key in sorted(one.keys() | other.keys())}
    return added


def nan_rows(table: pa.Table) -> dict[int, str]:
    """`row` -> one of its columns with a NaN, at any depth of lists and structs."""
    rows: dict[int, str] = {}
    for name in table.column_names:
        for values, parents in _floats(table[name].combine_chunks(), None):
            bad = pc.indices_nonzero(pc.fill_null(pc.is_nan(values), False))
            if len(bad):
                at = bad if parents is None else parents.take(bad)
                rows.update(dict.fromkeys(table["row"].take(at).to_pylist(), name))
    return rows


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
    """The value of a failed row in a system's column."""
    return {"decision": FAILED, "reasons": []}.get(field.name)


def _fill(values: pa.ChunkedArray, failed: pa.ChunkedArray, blank: Any) -> pa.ChunkedArray:
    # With take, as if_else does not support every nested type.
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
