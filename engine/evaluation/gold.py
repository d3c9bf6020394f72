"""Gold for an evaluation: labelled records, each id once, or texts in which people marked entities.

A record that cannot be used is counted and left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import itemgetter, or_
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.evaluation.rows import LONGEST_PART, check_length, check_parts
from engine.records import text_digest
from engine.sources.column_types import is_list
from engine.sources.labelled import GoldSpans, Labelled, Reader, read_spans
from engine.sources.labelled.annotated import TABLES, annotated_files
from engine.sources.labelled.values import FINDINGS, codes_in

_LONGEST_CODE = 60
_DOCUMENT_COLUMNS = ("dataset", "split", "lang")


@dataclass(frozen=True)
class GoldConfig(Labelled):
    """A labelled table, or texts with marked entities, and the part of it to use.

    `slices` are columns that divide the records. `where` keeps the rows with these values. `types` renames types of entities.
    `keep_text` keeps the texts too.
    """

    slices: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    keep_text: bool = False

    KEPT: ClassVar[tuple[str, ...]] = ("labels", "findings", "group", "slices", "where")

    def __post_init__(self) -> None:
        more = {f"slice_{name}": name for name in self.slices} | {f"where_{name}": name for name in self.where}
        object.__setattr__(self, "more", more)


@dataclass(frozen=True)
class Gold:
    """Records with at least one label, each id once.

    `table` has `record_id`, `text_sha256`, `text` (null if not requested), `group`, `pair`, for each task T `T` (codes joined by
    `;`) and `T_spans`, or `findings` if requested, and for each slice S `slice_S`. `multi` are the tasks with several codes in
    some row. `counts` gives the rows of the input that are used, and those left out by reason.
    """

    table: pa.Table
    multi: frozenset[str]
    counts: Mapping[str, int]


def read_gold(config: GoldConfig) -> Gold:
    """Reads the table.

    A row is left out and counted if it cannot be read, has no id or no label, or shares its id with a row that has other labels.
    Of several rows with the same id and labels the first counts.

    Raises:
        ConfigError: nothing to read, a column is missing or of the wrong kind, or no row is left.
    """
    _check(config)
    reader, answers = Reader(config), [*config.labels, *(["findings"] if config.findings else [])]
    for column in config.labels.values():
        kind = reader.kinds.get(column, pa.string())
        if pa.types.is_floating(kind) or (pa.types.is_nested(kind) and not is_list(kind)):
            raise ConfigError(f"{config.named('labels')}: a column holds {kind}; codes are text, or lists of text")
    tables, counts = [], dict.fromkeys(("rows", "elsewhere", "unreadable", "unlabelled"), 0)
    values: dict[str, set] = {name: set() for name in config.where}
    for table in reader.tables():
        counts["rows"] += len(table)
        for name in config.where:
            values[name] |= set(pc.unique(table[f"where_{name}"]).to_pylist()[:20])
        chosen = table
        for name, value in config.where.items():
            chosen = chosen.filter(pc.field(f"where_{name}") == str(value))
        counts["elsewhere"] += len(table) - len(chosen)
        sound = _columns(config, chosen.filter(pc.field("failure").is_null() & pc.field("record_id").is_valid()))
        counts["unreadable"] += len(chosen) - len(sound)
        labelled = sound.filter(reduce(or_, (pc.field(name).is_valid() for name in answers)))
        counts["unlabelled"] += len(sound) - len(labelled)
        tables.append(labelled)
    table = pa.concat_tables(tables) if tables else None
    if table is None or not len(table):
        raise ConfigError(_nothing(config, counts, values))
    table, repeated, conflicting = _unique(table, answers)
    counts |= {"repeated": repeated, "conflicting": conflicting, "used": len(table)}
    if not len(table):
        raise ConfigError(
            f"{config.named('id')}: every id occurs several times with different labels; if files number their records alike, "
            f"set {config.named('id_scope')}=file"
        )
    for name in config.slices:
        check_parts(name, table[f"slice_{name}"], config.named("slices"))
    if config.group:
        # Patients' ids appear in a table, so a longer value, such as a text, must not pass for one.
        check_length(config.named("group"), config.group, table["group"], LONGEST_PART, "with ids")
    for task, column in config.labels.items():
        # Codes appear in tables and reports.
        codes = pc.list_flatten(pc.split_pattern(table[task], ";"))
        check_length(config.named("labels"), column, codes, _LONGEST_CODE, "with codes")
    lists = {task for task, column in config.labels.items() if is_list(reader.kinds.get(column, pa.string()))}
    joined = {task for task in config.labels if pc.any(pc.match_substring(table[task], ";")).as_py()}
    return Gold(table, frozenset(lists | joined), counts)


def _check(config: GoldConfig) -> None:
    if not (config.labels or config.findings):
        raise ConfigError(f"{config.named('labels')}: name the column of at least one task")
    if config.spans and not config.text:
        raise ConfigError(f"{config.named('spans')}: needs the marked texts; name their column in {config.named('text')}")
    unknown = sorted(set(config.spans) - set(config.labels))
    if unknown:
        raise ConfigError(f"{config.named('spans')}: '{unknown[0]}' is no task of {config.named('labels')}")


def _columns(config: GoldConfig, records: pa.Table) -> pa.Table:
    """The columns of `Gold.table`, the codes of each record sorted and joined."""
    texts = records["text"]
    columns: dict[str, Any] = {
        "record_id": records["record_id"],
        "text_sha256": pa.array([None if text is None else text_digest(text) for text in texts.to_pylist()], pa.binary(32)),
        "text": texts if config.spans or config.keep_text else pa.nulls(len(records), pa.large_string()),
        "group": records["group"],
        "pair": records["pair"],
    }
    for task in config.labels:
        codes = map(codes_in, records[task].to_pylist())
        columns[task] = pa.array([None if each is None else ";".join(sorted(set(each))) for each in codes], pa.string())
    more = [*(f"{task}_spans" for task in config.spans), *(f"slice_{name}" for name in config.slices)]
    if config.findings:
        states = [sorted(each, key=itemgetter("name")) or None for each in records["findings"].to_pylist()]
        columns["findings"] = pa.array(states, FINDINGS)
    return pa.table(columns | {name: records[name] for name in more})


def _unique(table: pa.Table, answers: Sequence[str]) -> tuple[pa.Table, int, int]:
    """The table with each id once, the number of rows that repeat another, and of those that contradict one."""
    frame = pl.from_arrow(table.select(["record_id", *answers])).with_row_index("row")
    sound = frame.filter(pl.struct(answers).n_unique().over("record_id") == 1)
    once = sound.unique("record_id", keep="first", maintain_order=True)
    return table.take(once["row"].to_arrow()), len(sound) - len(once), len(frame) - len(sound)


def _nothing(config: GoldConfig, counts: Mapping[str, int], values: Mapping[str, set]) -> str:
    if not counts["rows"]:
        return f"{config.named('path')}: {config.path} has no rows"
    if counts["elsewhere"] == counts["rows"]:
        present = {n: sorted(map(str, v - {None})) for n, v in values.items()}
        shown = "; ".join(f"{n} has {', '.join(v[:10])}" for n, v in present.items() if all(len(value) < 30 for value in v))
        return f"{config.named('where')}: none of {counts['rows']:,} rows matches{': ' + shown if shown else ''}"
    return (
        f"{config.named('path')}: none of {counts['rows']:,} rows can be used ({counts['unreadable']:,} broken or without id, "
        f"{counts['unlabelled']:,} without a label)"
    )


def read_marked(config: GoldConfig, run_id_column: str | None = None) -> GoldSpans:
    """Marked texts: BRAT, IOB2, GENIA, or tables; their `records` have `group` and `slice_<name>` if gold has such a column.

    `group`, `slices` and `where` name what a document has (`dataset`, `split`, `lang`) or columns of tables; `id` and `source`
    name columns of tables.

    Args:
        run_id_column: the column of the run's ids, used if gold has it too and `id` names none.
    Raises:
        ConfigError: there is nothing to read, a column is missing, or no text is left.
    """
    try:
        tables = [file for file in annotated_files(config.path) if file.path.lower().endswith(TABLES)]
        columns = config.schema_of(tables[0]).names if tables else []
        for key in ("id", "source"):
            if (name := getattr(config, key)) and name not in columns:
                raise ConfigError(f"{key}: no table of {config.path} has a column '{name}'")
        gold = read_spans(replace(config, id=config.id or (run_id_column if run_id_column in columns else None)))
    except ConfigError as error:
        raise error.with_key("gold") from None
    records = pl.DataFrame(gold.records.drop_columns(["text"]))
    renamed = {new: name for new, name in {"group": config.group, **config.more}.items() if name in _DOCUMENT_COLUMNS}
    records = records.with_columns(pl.col(name).alias(new) for new, name in renamed.items())
    for name, value in config.where.items():
        if f"where_{name}" not in records.columns:
            raise ConfigError(f"where: gold has no column '{name}'; it has {', '.join([*_DOCUMENT_COLUMNS, *columns])}")
        records = records.filter(pl.col(f"where_{name}") == str(value))
    if not len(records):
        raise ConfigError(f"where: none of {len(gold.records):,} marked texts matches")
    parts = {f"slice_{name}": name for name in config.slices if f"slice_{name}" in records.columns}
    records = records.with_columns(pl.Series(new, check_parts(name, records[new])) for new, name in parts.items())
    return replace(gold, records=records.drop(f"where_{name}" for name in config.where).to_arrow())
