"""Which rows a page shows, and their texts, brought back from the input."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import AUTO, CODES, ENTITIES, FAILED, NOT_APPLICABLE, REVIEW, text_digest
from engine.storage import storage_for

# In the order of a page: what a person must look at comes first.
IN_TURN = (REVIEW, AUTO, NOT_APPLICABLE, FAILED)
MIXED, LEAST_SURE = "mixed", "least_sure"
_FEW = {FAILED: 10, NOT_APPLICABLE: 10}
_OF_ENTITIES = ("entities.list.element.type", "entities.list.element.score")

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
    SELECT file, row, record_id, decision, kind, prob, '' {_FITTING}
    ORDER BY list_position($in_turn::VARCHAR[], decision), prob NULLS FIRST, record_id LIMIT $reports
"""
# The same of each kind at most, so that memory is bounded by the kinds and not by the table.
_OF_EACH_KIND = f"""
    SELECT unnest(min_by(struct_pack(file, row, record_id, decision, kind, prob, place := md5(record_id)), md5(record_id),
                         $reports), recursive := true)
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
    """A row of a result table and the text it was made from, None where the row failed; entities of the text, where they were
    looked for beside codes."""

    row: Mapping[str, Any]
    text: str | None
    entities: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class _Lead:
    """What a page goes by in a table: columns that say it, and from them the kind of a row and how sure it is; null is least."""

    columns: Sequence[str]
    kind: pl.Expr
    prob: pl.Expr


def lead_of(table: str, tasks: Sequence[str] = ()) -> _Lead:
    """A coded report is of the kind of its first task's code, and as sure as the least sure of `tasks`; one with entities of the
    type of the least sure of them, and as sure as that one. One without any is surer than all others.

    Raises:
        ConfigError: there are no pages of such a table.
    """
    if table == CODES:
        probs = [pl.col(f"{task}_prob") for task in tasks]
        code = [pl.col(f"{task}_code") for task in tasks[:1]]
        least = pl.when(pl.all_horizontal(*(prob.is_not_null() for prob in probs))).then(pl.min_horizontal(*probs))
        columns = [f"{task}_{end}" for task in tasks for end in ("code", "prob")]
        return _Lead(columns, pl.coalesce(*code, pl.lit("")), least)
    if table == ENTITIES:
        each = pl.col("entities").list.eval(pl.element().struct.field("score")).list
        kinds = pl.col("entities").list.eval(pl.element().struct.field("type")).list
        prob = pl.when(pl.col("entities").list.len() > 0).then(each.min()).when(pl.col("entities").is_not_null()).then(1.0)
        return _Lead(_OF_ENTITIES, kinds.get(each.arg_min(), null_on_oob=True).fill_null(""), prob)
    raise ConfigError(f"output.path: there are no pages of {table}; give the folder of a run with {CODES} or {ENTITIES}")


def pick_examples(files: Sequence[str], choice: Choice, tasks: Sequence[str] = (), table: str = CODES) -> list[dict[str, Any]]:
    """Rows of a published table: decision by decision as in `IN_TURN`, and within one the least sure first.

    Of the whole table only the columns that choose are read, then the row groups that hold chosen rows. The choice is the same
    each time, whatever the order of the table. A mixed one has coded rows and rows to review in equal parts, spread over their
    kinds (see `lead_of`); failed and not applicable rows up to a tenth each, spread over the kinds of failure, and none before
    each of the others has one. Where one decision has too few rows the others fill up.

    Args:
        tasks: of codes those whose probability says how sure a row is; the lowest counts. table: the table's name.
    Raises:
        ConfigError: an id has no row.
    """
    ids = list(dict.fromkeys(choice.ids))
    values = {"decision": choice.decision, "reasons": list(choice.reasons), "ids": [], "reports": choice.reports}
    if ids:
        values = {"decision": None, "reasons": [], "ids": ids, "reports": len(ids)}
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("rows", pa.RecordBatchReader.from_batches(_ROWS, _candidates(files, lead_of(table, tasks))))
        if ids or choice.order == LEAST_SURE:
            chosen = database.execute(_FIRST, {**values, "in_turn": IN_TURN}).fetchall()
        else:
            chosen = _mixed(database.execute(_OF_EACH_KIND, values).fetchall(), choice.reports)
    missing = set(ids) - {record_id for _, _, record_id, *_ in chosen}
    if missing:
        first = next(each for each in ids if each in missing)
        more = f", nor {len(missing) - 1} more of these" if len(missing) > 1 else ""
        raise ConfigError(f"page.ids: the table has no record '{first}'{more}")
    turns = {
        (file, row): (IN_TURN.index(decision), -1.0 if prob is None else prob, record_id)
        for file, row, record_id, decision, _, prob, _ in chosen
    }
    rows = dict(_rows_at(files, set(turns)))
    return [rows[place] for place in sorted(turns, key=turns.get)]


def _candidates(files: Sequence[str], lead: _Lead) -> Iterator[pa.RecordBatch]:
    """The rows of all files with what chooses among them."""
    kind = pl.coalesce(pl.col("failure").struct.field("kind"), lead.kind)
    for number, path in enumerate(files):
        with storage_for(path).open(path) as stream:
            table, row = pq.ParquetFile(stream), 0
            for batch in table.iter_batches(columns=["record_id", "decision", "reasons", "failure.kind", *lead.columns]):
                rows = pl.DataFrame(pa.Table.from_batches([batch])).select(
                    "record_id",
                    "decision",
                    "reasons",
                    file=number,
                    row=pl.int_range(row, row + batch.num_rows),
                    kind=kind,
                    prob=lead.prob,
                )
                yield from rows.select(_ROWS.names).to_arrow().cast(_ROWS).to_batches()
                row += batch.num_rows


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


def _rows_at(files: Sequence[str], places: set[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """The whole rows at numbers of a file and of a row in it, each behind its numbers."""
    for number in sorted({file for file, _ in places}):
        with storage_for(files[number]).open(files[number]) as stream:
            table, first = pq.ParquetFile(stream), 0
            for group in range(table.num_row_groups):
                after = first + table.metadata.row_group(group).num_rows
                inside = sorted(row for file, row in places if file == number and first <= row < after)
                for batch in table.iter_batches(row_groups=[group]) if inside else ():
                    here = [row - first for row in inside if first <= row < first + batch.num_rows]
                    found = batch.take(pa.array(here, pa.int64())).to_pylist()
                    yield from zip([(number, first + row) for row in here], found, strict=True)
                    first += batch.num_rows
                first = after


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
