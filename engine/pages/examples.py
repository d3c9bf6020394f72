"""The rows that a page shows, and their texts, read again from the input."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import AUTO, CODES, ENTITIES, FAILED, FINDINGS, NOT_APPLICABLE, REVIEW, text_digest
from engine.storage import storage_for

# The order of a page: what a person must look at comes first.
IN_TURN = (REVIEW, AUTO, NOT_APPLICABLE, FAILED)
MIXED, LEAST_SURE = "mixed", "least_sure"
_FEW = {FAILED: 10, NOT_APPLICABLE: 10}
_ENTITY_COLUMNS = ("entities.list.element.type", "entities.list.element.score")
_LABEL_COLUMNS = tuple(f"labels.list.element.{name}" for name in ("name", "prob", "threshold"))

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
_MATCHING = """
    FROM rows
    WHERE ($decision IS NULL OR decision = $decision)
      AND (len($reasons::VARCHAR[]) = 0 OR list_has_any(reasons, $reasons::VARCHAR[]))
      AND (len($ids::VARCHAR[]) = 0 OR record_id IN (SELECT unnest($ids::VARCHAR[])))
"""
_FIRST = f"""
    SELECT file, row, record_id, decision, kind, prob, '' {_MATCHING}
    ORDER BY list_position($in_turn::VARCHAR[], decision), prob NULLS FIRST, record_id LIMIT $reports
"""
# At most that many of each kind, so that the number of kinds bounds memory, not the table.
_PER_KIND = f"""
    SELECT unnest(min_by(struct_pack(file, row, record_id, decision, kind, prob, place := md5(record_id)), md5(record_id),
                         $reports), recursive := true)
    {_MATCHING} GROUP BY decision, kind
"""


@dataclass(frozen=True)
class Choice:
    """The rows that a page shows: those with `ids`, or `reports` rows, of one `decision` and with one of `reasons` if these are
    set.

    If more rows match, `MIXED` takes a sample of every kind, `LEAST_SURE` the first in the order of the page.
    """

    reports: int = 20
    decision: str | None = None
    reasons: Sequence[str] = ()
    ids: Sequence[str] = ()
    order: str = MIXED


@dataclass(frozen=True)
class Example:
    """A row of a result table and its text, None if the row failed; and the entities of the text, if they were looked for beside
    codes."""

    row: Mapping[str, Any]
    text: str | None
    entities: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class _Lead:
    """What a page chooses rows by: the columns to read, and from them a row's kind and its certainty; null is the least
    certain."""

    columns: Sequence[str]
    kind: pl.Expr
    prob: pl.Expr


def lead_of(table: str, tasks: Sequence[str] = ()) -> _Lead:
    """A coded report has the kind of its first task's code, and the certainty of the least certain of `tasks`. A report with
    entities has the type and certainty of the least certain entity; one without any is more certain than all others. A study has
    the kind of the finding that lies highest above its threshold, or least below; its certainty is the distance in log-odds
    between probability and threshold of the finding that is nearest to it.

    Raises:
        ConfigError: there are no pages for such a table.
    """
    if table == CODES:
        probs = [pl.col(f"{task}_prob") for task in tasks]
        code = [pl.col(f"{task}_code") for task in tasks[:1]]
        lowest = pl.when(pl.all_horizontal(*(prob.is_not_null() for prob in probs))).then(pl.min_horizontal(*probs))
        columns = [f"{task}_{end}" for task in tasks for end in ("code", "prob")]
        return _Lead(columns, pl.coalesce(*code, pl.lit("")), lowest)
    if table == ENTITIES:
        entities = pl.col("entities")
        scores, kinds = (entities.list.eval(pl.element().struct.field(name)).list for name in ("score", "type"))
        prob = pl.when(entities.list.len() > 0).then(scores.min()).when(entities.is_not_null()).then(1.0)
        return _Lead(_ENTITY_COLUMNS, kinds.get(scores.arg_min(), null_on_oob=True).fill_null(""), prob)
    if table == FINDINGS:
        above = pl.col("labels").list.eval(_log_odds("prob") - _log_odds("threshold")).list
        names = pl.col("labels").list.eval(pl.element().struct.field("name")).list
        kind = names.get(above.arg_max(), null_on_oob=True).fill_null("")
        return _Lead(_LABEL_COLUMNS, kind, above.eval(pl.element().abs()).list.min())
    raise ConfigError(
        f"output.path: there are no pages for {table}; give the folder of a run with {CODES}, {ENTITIES} or {FINDINGS}"
    )


def _log_odds(name: str) -> pl.Expr:
    """Of a field of the elements of a list; finite at 0 and 1."""
    prob = pl.element().struct.field(name).cast(pl.Float64).clip(1e-6, 1 - 1e-6)
    return (prob / (1 - prob)).log()


def pick_examples(files: Sequence[str], choice: Choice, tasks: Sequence[str] = (), table: str = CODES) -> list[dict[str, Any]]:
    """Rows of a published table, ordered by decision as in `IN_TURN`, and within one the least certain first.

    Only the columns needed for choosing are read from the whole table, then the row groups with chosen rows. The choice is the
    same each time, whatever the order of the table. A mixed choice has coded rows and rows to review in equal parts, spread over
    their kinds (see `lead_of`); failed and not applicable rows up to a tenth each, spread over the kinds of failure, and none
    before each of the others has one. If one decision has too few rows, the others fill up.

    Args:
        tasks: tasks of codes whose lowest probability is the certainty of a row. table: the table's name.
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
            chosen = _mixed(database.execute(_PER_KIND, values).fetchall(), choice.reports)
    missing = set(ids) - {record_id for _, _, record_id, *_ in chosen}
    if missing:
        first = next(name for name in ids if name in missing)
        more = f", nor {len(missing) - 1} of the others" if len(missing) > 1 else ""
        raise ConfigError(f"page.ids: the table has no record '{first}'{more}")
    turns = {
        (file, row): (IN_TURN.index(decision), -1.0 if prob is None else prob, record_id)
        for file, row, record_id, decision, _, prob, _ in chosen
    }
    rows = dict(_rows_at(files, set(turns)))
    return [rows[place] for place in sorted(turns, key=turns.get)]


def _candidates(files: Sequence[str], lead: _Lead) -> Iterator[pa.RecordBatch]:
    """The rows of all files with the columns that `_ROWS` chooses by."""
    kind = pl.coalesce(pl.col("failure").struct.field("kind"), lead.kind)
    for number, path in enumerate(files):
        with storage_for(path).open(path) as stream:
            table, row = pq.ParquetFile(stream), 0
            for batch in table.iter_batches(columns=["record_id", "decision", "reasons", "failure.kind", *lead.columns]):
                place = {"file": pl.lit(number), "row": pl.int_range(row, row + batch.num_rows)}
                rows = pl.DataFrame(pa.Table.from_batches([batch])).with_columns(**place, kind=kind, prob=lead.prob)
                yield from rows.select(_ROWS.names).to_arrow().cast(_ROWS).to_batches()
                row += batch.num_rows


def _mixed(candidates: Sequence[tuple], n: int) -> list[tuple]:
    """`n` of these rows: decisions by their shares, and within one the kinds in turn."""
    by_decision: dict[str, dict[str, list[tuple]]] = {decision: {} for decision in IN_TURN}
    for row in sorted(candidates, key=lambda row: row[-1]):
        by_decision[row[3]].setdefault(row[4], []).append(row)
    queues = {
        decision: [row for turn in zip_longest(*kinds.values()) for row in turn if row is not None]
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
    return [row for decision in IN_TURN for row in queues[decision][: chosen[decision]]][:n]


def _rows_at(files: Sequence[str], places: set[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """The whole rows at places (number of the file, of the row in it), each with its place."""
    for number in sorted({file for file, _ in places}):
        with storage_for(files[number]).open(files[number]) as stream:
            table, first = pq.ParquetFile(stream), 0
            for group in range(table.num_row_groups):
                after = first + table.metadata.row_group(group).num_rows
                inside = sorted(row for file, row in places if file == number and first <= row < after)
                for batch in table.iter_batches(row_groups=[group]) if inside else ():
                    offsets = [row - first for row in inside if first <= row < first + batch.num_rows]
                    rows = batch.take(pa.array(offsets, pa.int64())).to_pylist()
                    yield from zip([(number, first + offset) for offset in offsets], rows, strict=True)
                    first += batch.num_rows
                first = after


def join_text(rows: Sequence[Mapping[str, Any]], records: Iterable[pa.Table]) -> list[Example]:
    """The rows with their texts, by source and position, in the order of the rows.

    Args:
        records: tables from sources, one after the other; reading stops when every text is found.
    Raises:
        ConfigError: the input no longer has a record, or has another text in its place.
    """
    wanted = {(row["source"], row["position"]) for row in rows if row["decision"] != FAILED}
    texts: dict[tuple[str, int], str] = {}
    for table in records if wanted else ():
        keys = zip(table["source"].to_pylist(), table["position"].to_pylist(), strict=True)
        for i, key in enumerate(keys):
            if key in wanted and (text := table["text"][i].as_py()) is not None:
                texts[key] = text
        if len(texts) == len(wanted):
            break
    return [verified(row, texts.get((row["source"], row["position"]))) for row in rows]


def verified(row: Mapping[str, Any], text: str | None) -> Example:
    """The row with its text.

    Raises:
        ConfigError: the text is another one, in which spans would mark the wrong words.
    """
    if row["decision"] == FAILED:
        return Example(row, None)
    place = f"{row['source']}, record {row['position']}"
    if text is None:
        raise ConfigError(f"{place}: the input no longer has this record; name the input that was coded")
    if text_digest(text) != row["text_sha256"]:
        raise ConfigError(f"{place}: the text is not the one that was coded; name the input that was coded")
    return Example(row, text)
