"""Labelled records as gold: what is right for each id, each id once, and what part of the world it stands for.

A record that cannot be used is counted and left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from engine.sources.labelled import Labelled, Reader
from engine.sources.labelled.values import FINDINGS, codes_in

_LONGEST_CODE = 60


@dataclass(frozen=True)
class GoldConfig(Labelled):
    """A labelled table, or texts with marked entities, and what of it counts.

    `slices` are columns to part the records by. `where` keeps the rows with these values. `types` gives another name to types of
    entities. `keep_text` keeps texts too.
    """

    slices: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    keep_text: bool = False

    KEPT: ClassVar[tuple[str, ...]] = ("labels", "group", "slices", "where")

    def __post_init__(self) -> None:
        parts = {f"slice_{name}": name for name in self.slices}
        object.__setattr__(self, "more", parts | {f"where_{name}": name for name in self.where})


@dataclass(frozen=True)
class Gold:
    """Records with at least one label, each id once.

    `table` has `record_id`, `text_sha256` and `text` (null where not asked for), `group`, `pair`, for each task T `T` (codes
    joined by `;`) and `T_spans`, or `findings` where they are asked for, and for each slice S `slice_S`. `multi` are the tasks
    with several codes somewhere. `counts` says what became of the rows of the input: used, and the ways to be left out.
    """

    table: pa.Table
    multi: frozenset[str]
    counts: Mapping[str, int]


def read_gold(config: GoldConfig) -> Gold:
    """Reads the table.

    A row is left out and counted when it cannot be read, has no id, has no label, or has an id that another row gives other
    labels; of rows that are alike in id and labels the first counts.

    Raises:
        ConfigError: nothing to read, a column is missing or cannot be what it is named for, or no row is left.
    """
    _check(config)
    reader, told = Reader(config), [*config.labels, *(["findings"] if config.findings else [])]
    _check_kinds(config, reader.kinds)
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
        labelled = sound.filter(reduce(or_, (pc.field(name).is_valid() for name in told)))
        counts["unlabelled"] += len(sound) - len(labelled)
        tables.append(labelled)
    table = pa.concat_tables(tables) if tables else None
    if table is None or not len(table):
        raise ConfigError(_nothing(config, counts, values))
    table, repeated, conflicting = _once(table, told)
    counts |= {"repeated": repeated, "conflicting": conflicting, "used": len(table)}
    if not len(table):
        raise ConfigError(
            f"{config.named('id')}: every id stands several times with different labels; if files number alike, set "
            f"{config.named('id_scope')}=file"
        )
    for name in config.slices:
        check_parts(name, table[f"slice_{name}"], config.named("slices"))
    if config.group:
        # A patient's id stands in a table, so a column with something longer, such as a text, must not pass for it.
        check_length(config.named("group"), config.group, table["group"], LONGEST_PART, "with ids")
    for task, column in config.labels.items():
        # Codes are shown in tables and reports.
        check_length(
            config.named("labels"), column, pc.list_flatten(pc.split_pattern(table[task], ";")), _LONGEST_CODE, "with codes"
        )
    lists = {task for task, column in config.labels.items() if is_list(reader.kinds.get(column, pa.string()))}
    joined = {task for task in config.labels if pc.any(pc.match_substring(table[task], ";")).as_py()}
    return Gold(table, frozenset(lists | joined), counts)


def _check(config: GoldConfig) -> None:
    if not (config.labels or config.findings):
        raise ConfigError(f"{config.named('labels')}: name the column of at least one task")
    if config.spans and not config.text:
        raise ConfigError(
            f"{config.named('spans')}: needs the texts that were marked; name their column in {config.named('text')}"
        )
    unknown = sorted(set(config.spans) - set(config.labels))
    if unknown:
        raise ConfigError(f"{config.named('spans')}: '{unknown[0]}' is no task of {config.named('labels')}")


def _check_kinds(config: GoldConfig, kinds: Mapping[str, pa.DataType]) -> None:
    """Numbers with a fraction are no codes, and structures neither."""
    for column in config.labels.values():
        kind = kinds.get(column, pa.string())
        if pa.types.is_floating(kind) or (pa.types.is_nested(kind) and not is_list(kind)):
            raise ConfigError(f"{config.named('labels')}: a column holds {kind}; codes are text, or lists of text")


def _columns(config: GoldConfig, records: pa.Table) -> pa.Table:
    """Readable records under the names of `Gold.table`, the codes of each sorted and joined."""
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


def _once(table: pa.Table, told: Sequence[str]) -> tuple[pa.Table, int, int]:
    """The table with each id once, the rows that repeat another, and the rows left out because they contradict one."""
    frame = pl.from_arrow(table.select(["record_id", *told])).with_row_index("row")
    sound = frame.filter(pl.struct(told).n_unique().over("record_id") == 1)
    once = sound.unique("record_id", keep="first", maintain_order=True)
    return table.take(once["row"].to_arrow()), len(sound) - len(once), len(frame) - len(sound)


def _nothing(config: GoldConfig, counts: Mapping[str, int], values: Mapping[str, set]) -> str:
    if not counts["rows"]:
        return f"{config.named('path')}: {config.path} has no rows"
    if counts["elsewhere"] == counts["rows"]:
        known = {n: sorted(map(str, v - {None})) for n, v in values.items()}
        told = "; ".join(f"{n} has {', '.join(v[:10])}" for n, v in known.items() if all(len(each) < 30 for each in v))
        return f"{config.named('where')}: none of {counts['rows']:,} rows is chosen{': ' + told if told else ''}"
    return (
        f"{config.named('path')}: none of {counts['rows']:,} rows can be used ({counts['unreadable']:,} broken or without id, "
        f"{counts['unlabelled']:,} without a label)"
    )
