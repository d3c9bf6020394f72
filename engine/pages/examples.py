"""Which rows a page shows, and their texts, brought back from the input."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import AUTO, FAILED, NOT_APPLICABLE, REVIEW, system_columns, text_digest
from engine.storage import storage_for

# In the order of a page: what a person must look at comes first.
IN_TURN = (REVIEW, AUTO, NOT_APPLICABLE, FAILED)
MIXED, LEAST_SURE = "mixed", "least_sure"
_FEW = {FAILED: 10, NOT_APPLICABLE: 10}

_ROWS = pa.schema(
    [
        pa.field("file", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("record_id", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("kind", pa.string()),
        pa.field("prob", pa.float32()),
    ]
)
_FITTING = """
    FROM rows
    WHERE ($decision IS NULL OR decision = $decision)
      AND (len($reasons::VARCHAR[]) = 0 OR list_has_any(reasons, $reasons::VARCHAR[]))
      AND (len($ids::VARCHAR[]) = 0 OR record_id IN (SELECT unnest($ids::VARCHAR[])))
"""
_FIRST = f"""
    SELECT file, row, record_id, decision, kind, '' {_FITTING}
    ORDER BY list_position($in_turn::VARCHAR[], decision), prob NULLS FIRST, record_id LIMIT $reports
"""
# The same of each kind at most, so that memory is bounded by the kinds and not by the table.
_OF_EACH_KIND = f"""
    SELECT unnest(min_by(struct_pack(file, row, record_id, decision, kind, place := md5(record_id)), md5(record_id), $reports),
                  recursive := true)
    {_FITTING} GROUP BY decision, kind
"""


@dataclass(frozen=True)
class Choice:
    """The rows that a page shows: those with `ids`, or `reports` rows of a decision and with one of `reasons`, where set.

    Where more would fit, `MIXED` takes a sample of every kind, and `LEAST_SURE` those that come first in the order of the page.
    """

    reports: int = 20
    decision: str | None = None
    reasons: Sequence[str] = ()
    ids: Sequence[str] = ()
    order: str = MIXED


@dataclass(frozen=True)
class Example:
    """A row of `codes` and the text it was made from, None where the row failed; entities of the text, if any were looked for."""

    row: Mapping[str, Any]
    text: str | None
    entities: Sequence[Mapping[str, Any]] | None = None


def tasks_of(schema: pa.Schema) -> list[str]:
    """The tasks of a `codes` table, in table order. Columns that the user passed through, which stand last, make none."""
    ends, ours = "_decision", system_columns(schema.names)
    return [name[: -len(ends)] for name in ours if name.endswith(ends) and f"{name[: -len(ends)]}_code" in ours]


def pick_examples(files: Sequence[str], choice: Choice, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a published table: decision by decision as in `IN_TURN`, and within one the least sure first.

    Of the whole table only the columns that choose are read, then the row groups that hold chosen rows. The choice is the same
    each time, whatever the order of the table. A mixed one has coded rows and rows to review in equal parts, spread over the
    codes of the first task; failed and not applicable rows up to a tenth each, spread over the kinds of failure, and none before
    each of the others has one. Where one decision has too few rows the others fill up.

    Args:
        tasks: those whose probability says how sure a row is; the lowest counts.
    Raises:
        ConfigError: an id has no row.
    """
    ids = list(dict.fromkeys(choice.ids))
    values = {"decision": choice.decision, "reasons": list(choice.reasons), "ids": [], "reports": choice.reports}
    if ids:
        values = {"decision": None, "reasons": [], "ids": ids, "reports": len(ids)}
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("rows", pa.RecordBatchReader.from_batches(_ROWS, _candidates(files, tasks)))
        if ids or choice.order == LEAST_SURE:
            found = database.execute(_FIRST, {**values, "in_turn": IN_TURN}).fetchall()
        else:
            found = _mixed(database.execute(_OF_EACH_KIND, values).fetchall(), choice.reports)
    missing = set(ids) - {record_id for _, _, record_id, *_ in found}
    if missing:
        first = next(each for each in ids if each in missing)
        more = f", nor {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise ConfigError(f"page.ids: the table has no record '{first}'{more}")
    rows = list(_rows_at(files, {(file, row) for file, row, *_ in found}))
    return sorted(rows, key=lambda row: _turn(row, tasks))


def _candidates(files: Sequence[str], tasks: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of all files with what chooses among them."""
    for number, path in enumerate(files):
        with storage_for(path).open(path) as stream:
            table, row = pq.ParquetFile(stream), 0
            of_tasks = [f"{task}_{end}" for task in tasks for end in ("code", "prob")]
            for batch in table.iter_batches(columns=["record_id", "decision", "reasons", "failure.kind", *of_tasks]):
                count = batch.num_rows
                probs = [batch.column(f"{task}_prob") for task in tasks]
                codes = [batch.column(f"{tasks[0]}_code")] if tasks else []
                columns = {
                    "file": pa.repeat(pa.scalar(number, pa.int32()), count),
                    "row": pa.array(range(row, row + count), pa.int64()),
                    "record_id": batch.column("record_id"),
                    "decision": batch.column("decision"),
                    "reasons": batch.column("reasons"),
                    "kind": pc.coalesce(pc.struct_field(batch.column("failure"), "kind"), *codes, pa.scalar("")),
                    "prob": pc.min_element_wise(*probs, skip_nulls=False) if probs else pa.nulls(count, pa.float32()),
                }
                yield pa.record_batch(list(columns.values()), schema=_ROWS)
                row += count


def _mixed(found: Sequence[tuple], n: int) -> list[tuple]:
    """`n` of these rows, the decisions by their shares and within one the kinds by turns."""
    by_decision: dict[str, dict[str, list[tuple]]] = {decision: {} for decision in IN_TURN}
    for each in sorted(found, key=lambda each: each[-1]):
        by_decision[each[3]].setdefault(each[4], []).append(each)
    queues = {
        decision: [each for turn in zip_longest(*kinds.values()) for each in turn if each is not None]
        for decision, kinds in by_decision.items()
    }
    room = max(0, n - sum(bool(queues[decision]) for decision in (REVIEW, AUTO)))
    chosen = {}
    for decision, share in _FEW.items():
        chosen[decision] = min(len(queues[decision]), max(1, n // share), room)
        room -= chosen[decision]
    rest = max(0, n - sum(chosen.values()))
    chosen[REVIEW] = min(len(queues[REVIEW]), rest - min(len(queues[AUTO]), rest // 2))
    chosen[AUTO] = min(len(queues[AUTO]), rest - chosen[REVIEW])
    for decision in (NOT_APPLICABLE, FAILED):
        chosen[decision] += min(len(queues[decision]) - chosen[decision], n - sum(chosen.values()))
    return [each for decision in IN_TURN for each in queues[decision][: chosen[decision]]][:n]


def _rows_at(files: Sequence[str], places: set[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """The whole rows at numbers of a file and of a row in it."""
    for number in sorted({file for file, _ in places}):
        with storage_for(files[number]).open(files[number]) as stream:
            table, first = pq.ParquetFile(stream), 0
            for group in range(table.num_row_groups):
                after = first + table.metadata.row_group(group).num_rows
                inside = sorted(row for file, row in places if file == number and first <= row < after)
                for batch in table.iter_batches(row_groups=[group]) if inside else ():
                    here = [row - first for row in inside if first <= row < first + batch.num_rows]
                    yield from batch.take(pa.array(here, pa.int64())).to_pylist()
                    first += batch.num_rows
                first = after


def _turn(row: Mapping[str, Any], tasks: Sequence[str]) -> tuple[int, float, str]:
    probs = [row[f"{task}_prob"] for task in tasks]
    return IN_TURN.index(row["decision"]), -1.0 if None in probs else min(probs, default=0.0), row["record_id"]


def join_text(rows: Sequence[Mapping[str, Any]], records: Iterable[pa.Table]) -> list[Example]:
    """The rows with their texts, by source and position, in the order of the rows.

    Args:
        records: tables as sources give them, one after the other; reading ends when every text is found.
    Raises:
        ConfigError: the input no longer has a record, or has another text in its place.
    """
    wanted = {(row["source"], row["position"]) for row in rows if row["decision"] != FAILED}
    found: dict[tuple[str, int], str] = {}
    for table in records if wanted else ():
        keys = zip(table["source"].to_pylist(), table["position"].to_pylist(), strict=True)
        for i, key in enumerate(keys):
            if key in wanted and (text := table["text"][i].as_py()) is not None:
                found[key] = text
        if len(found) == len(wanted):
            break
    return [verified(row, found.get((row["source"], row["position"]))) for row in rows]


def verified(row: Mapping[str, Any], text: str | None) -> Example:
    """The pair, if this is the text that the row was made from.

    Raises:
        ConfigError: it is not; spans in another text would mark the wrong words.
    """
    if row["decision"] == FAILED:
        return Example(row, None)
    place = f"{row['source']}, record {row['position']}"
    if text is None:
        raise ConfigError(f"{place}: the input no longer has this record; show evidence beside the input that was coded")
    if text_digest(text) != row["text_sha256"]:
        raise ConfigError(f"{place}: the text is not the one that was coded; show evidence beside the input that was coded")
    return Example(row, text)
