"""Labelled records from a user's own table: what is right for each id, and what part of the world it stands for.

The table is read as reports are (`engine.sources`), so formats, encodings, broken lines and ids behave the same; here a record
that cannot be used is counted and left out instead.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine import sources
from engine.errors import ConfigError
from engine.records import text_digest
from engine.sources.base import DOUBLE, PARQUET
from engine.sources.files import format_of
from engine.storage import Storage, storage_for

_SHARD_BYTES = 8 * 1024 * 1024
_MOST_PARTS, _LONGEST_PART = 1000, 100
_LONGEST_CODE = 60
SPANS = pa.list_(pa.struct([pa.field("start", pa.int64()), pa.field("end", pa.int64())]))


@dataclass(frozen=True)
class GoldConfig:
    """Where labelled records are, and which of their columns hold what.

    `labels` maps a task to its column: a code, several joined by `;`, or a list of codes. `source` names a column whose value and
    a colon stand in front of the id; `id_scope` "file" does that with the file's own name. `group` names the column of the unit
    that resampling draws, such as the patient. `slices` are columns to part the records by. `where` keeps the rows with these
    values. `spans` maps a task to a column of marked spans, which need `text`. `keep_text` keeps texts too. `names` is what the
    user calls the keys of this table, for messages.
    """

    path: str
    labels: Mapping[str, str]
    id: str | None = None
    text: str | None = None
    source: str | None = None
    id_scope: str = "input"
    group: str | None = None
    slices: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, str] = field(default_factory=dict)
    pair: str | None = None
    keep_text: bool = False
    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: str = DOUBLE
    escape: str | None = None
    max_bytes: int = 4_194_304
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            raise ConfigError(f"{self.named('labels')}: name the column of at least one task")
        if self.spans and not self.text:
            raise ConfigError(
                f"{self.named('spans')}: needs the texts that were marked; name their column in {self.named('text')}"
            )
        unknown = sorted(set(self.spans) - set(self.labels))
        if unknown:
            raise ConfigError(f"{self.named('spans')}: '{unknown[0]}' is no task of {self.named('labels')}")

    def named(self, key: str) -> str:
        """What the user calls a key."""
        return self.names.get(key, key)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column but id and text, each once."""
        single = [each for each in (self.source, self.group, self.pair) if each]
        return tuple(dict.fromkeys([*self.labels.values(), *single, *self.slices, *self.where, *self.spans.values()]))


@dataclass(frozen=True)
class Gold:
    """Records with at least one label, each id once.

    `table` has `record_id`, `text_sha256` and `text` (null where not asked for), `group`, `pair`, and for each task T `T` (codes
    joined by `;`) and `T_spans`, for each slice S `slice_S`. `multi` are the tasks with several codes somewhere. `counts` says
    what became of the rows of the input: used, and the ways to be left out.
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
    tables, multi, counts = [], set(), dict.fromkeys(("rows", "elsewhere", "unreadable", "unlabelled"), 0)
    values: dict[str, set] = {name: set() for name in config.where}
    for records in _read(config):
        counts["rows"] += len(records)
        table, lists = _columns(config, records)
        multi |= lists
        for name in config.where:
            values[name] |= set(pc.unique(table[f"where_{name}"]).to_pylist()[:20])
        chosen = _matching(config, table)
        counts["elsewhere"] += len(table) - len(chosen)
        sound = chosen.filter(pc.field("sound"))
        counts["unreadable"] += len(chosen) - len(sound)
        labelled = sound.filter(pc.invert(_all_null(sound, list(config.labels))))
        counts["unlabelled"] += len(sound) - len(labelled)
        tables.append(labelled)
    table = pa.concat_tables(tables) if tables else None
    if table is None or not len(table):
        raise ConfigError(_nothing(config, counts, values))
    table, repeated, conflicting = _once(table, list(config.labels))
    counts |= {"repeated": repeated, "conflicting": conflicting, "used": len(table)}
    if not len(table):
        raise ConfigError(
            f"{config.named('id')}: every id stands several times with different labels; if files number alike, set "
            f"{config.named('id_scope')}=file"
        )
    for name in config.slices:
        check_parts(name, table[f"slice_{name}"], config.named("slices"))
    if config.group:
        _check_group(config, config.group, table["group"])
    for task, column in config.labels.items():
        _check_codes(config, column, table[task])
    multi |= {task for task in config.labels if pc.any(pc.match_substring(table[task], ";")).as_py()}
    return Gold(table, frozenset(multi), counts)


def check_parts(name: str, column: pa.ChunkedArray, key: str = "slices") -> pa.ChunkedArray:
    """The values of a column as texts, if they part records into a few. They stand in tables and pages, where no text may stand.

    Args:
        key: what the user calls the setting that names the column.
    Raises:
        ConfigError: the values are too many or too long, or lists.
    """
    column = _texts(column)
    values = pc.unique(column).drop_null()
    longest = pc.max(pc.utf8_length(values)).as_py() or 0
    if len(values) > _MOST_PARTS or longest > _LONGEST_PART:
        told = f"{len(values):,} different values" if len(values) > _MOST_PARTS else f"values of up to {longest:,} characters"
        raise ConfigError(f"{key}: column '{name}' has {told}; name one that parts the records into a few")
    return column


def _read(config: GoldConfig) -> Iterator[pa.Table]:
    storage = storage_for(config.path)
    try:
        stand_in = config.text or _stand_in(config, storage)
        settings = sources.InputConfig(
            config.path,
            config.id,
            stand_in,
            tuple(name for name in config.columns if name != stand_in),
            encoding=config.encoding,
            delimiter=config.delimiter,
            quoting=config.quoting,
            escape=config.escape,
            id_scope=config.id_scope,
            max_bytes=config.max_bytes,
        )
        files = sources.list_files(settings, storage)
        keep = sources.keep_fields(settings, storage, files)
        for shard in sources.cut(settings, storage, files, _SHARD_BYTES):
            records = sources.read(settings, storage, shard, keep)
            kept = records["keep"].combine_chunks()
            columns = {name: kept.field(name) for name in settings.keep}
            yield pa.table(
                {
                    "record_id": records["record_id"],
                    "kind": pc.struct_field(records["failure"], "kind"),
                    "value_text": records["text"],
                    **{f"value_{name}": columns.get(name, records["text"]) for name in config.columns},
                }
            )
    except ConfigError as error:
        raise ConfigError(_renamed(config, str(error))) from None


def _stand_in(config: GoldConfig, storage: Storage) -> str:
    """A column of text for the reader, which wants one, where the table has no reports or they are not needed."""
    wanted = [*([config.id] if config.id else []), *config.labels.values()]
    listing = sources.InputConfig(config.path, config.id, wanted[0])
    first = sources.list_files(listing, storage)[0]
    if format_of(listing, first) != PARQUET:
        return wanted[0]
    try:
        with storage.open(first.path) as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError):
        return wanted[0]
    texts = [name for name in wanted if name in schema.names and _is_text(schema.field(name).type)]
    return texts[0] if texts else wanted[0]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _columns(config: GoldConfig, records: pa.Table) -> tuple[pa.Table, set[str]]:
    """The rows under the names of `Gold.table`, and the tasks whose column holds lists."""
    kinds = records["kind"].to_pylist()
    # A record without a usable text still has its label; and another column may stand in for the text.
    harmless = {"missing_text", "too_large"}
    text = records["value_text"] if config.text else pa.nulls(len(records), pa.large_string())
    ids = records["record_id"]
    if config.source:
        ids = pc.binary_join_element_wise(_texts(records[f"value_{config.source}"]), ids, ":")
    sound = [kind is None or kind in harmless for kind in kinds]
    columns: dict[str, Any] = {
        "record_id": ids.cast(pa.string()),
        "sound": pa.array([ok and one is not None for ok, one in zip(sound, ids.to_pylist(), strict=True)], pa.bool_()),
        "text_sha256": pa.array([None if t is None else text_digest(t) for t in text.to_pylist()], pa.binary(32)),
        "text": text if config.spans or config.keep_text else pa.nulls(len(records), pa.large_string()),
    }
    for name, column in (("group", config.group), ("pair", config.pair)):
        columns[name] = _texts(records[f"value_{column}"]) if column else pa.nulls(len(records), pa.string())
    lists = set()
    for task, column in config.labels.items():
        columns[task], is_list = _codes(config, records[f"value_{column}"])
        lists |= {task} if is_list else set()
    for task, column in config.spans.items():
        columns[f"{task}_spans"] = _spans(records[f"value_{column}"])
    for prefix, names in (("slice", config.slices), ("where", tuple(config.where))):
        columns |= {f"{prefix}_{name}": _texts(records[f"value_{name}"]) for name in names}
    return pa.table(columns), lists


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError("a column to group, part or choose by holds lists or structures; name a plain one") from None


def _codes(config: GoldConfig, column: pa.ChunkedArray) -> tuple[pa.Array, bool]:
    """Codes as text, those of a list sorted and joined; blank is null."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if pa.types.is_floating(column.type) or (pa.types.is_nested(column.type) and not is_list):
        raise ConfigError(f"{config.named('labels')}: a column holds {column.type}; codes are text, or lists of text")
    found = []
    for value in column.to_pylist():
        parts = [] if value is None else value if is_list else str(value).split(";")
        codes = sorted({str(part).strip() for part in parts if part is not None} - {""})
        # An empty list says that no code applies, which is an answer; an empty cell says nothing.
        found.append(";".join(codes) if codes or (is_list and value is not None) else None)
    return pa.array(found, pa.string()), is_list


def _spans(column: pa.ChunkedArray) -> pa.Array:
    """Marked spans from lists of structs, or from JSON in a cell; null where there is none or it cannot be read."""
    found = []
    for value in column.to_pylist():
        try:
            spans = json.loads(value) if isinstance(value, str) else value
            pairs = [(s["start"], s["end"]) if isinstance(s, dict) else (s[0], s[1]) for s in spans or ()]
            found.append([{"start": int(a), "end": int(b)} for a, b in pairs])
        except (ValueError, TypeError, KeyError, IndexError):
            found.append(None)
    return pa.array(found, SPANS)


def _matching(config: GoldConfig, table: pa.Table) -> pa.Table:
    for name, value in config.where.items():
        table = table.filter(pc.equal(table[f"where_{name}"], str(value)))
    return table


def _all_null(table: pa.Table, names: Sequence[str]) -> pa.ChunkedArray:
    mask = pc.is_null(table[names[0]])
    for name in names[1:]:
        mask = pc.and_(mask, pc.is_null(table[name]))
    return mask


def _once(table: pa.Table, tasks: Sequence[str]) -> tuple[pa.Table, int, int]:
    """The table with each id once, the rows that repeat another, and the rows left out because they contradict one."""
    first: dict[str, int] = {}
    labels = list(zip(*(table[task].to_pylist() for task in tasks), strict=True))
    bad = set()
    ids = table["record_id"].to_pylist()
    for row, name in enumerate(ids):
        at = first.setdefault(name, row)
        if labels[at] != labels[row]:
            bad.add(name)
    keep = [row for name, row in first.items() if name not in bad]
    conflicting = sum(name in bad for name in ids)
    return table.take(pa.array(keep, pa.int64())), len(table) - len(keep) - conflicting, conflicting


def _check_group(config: GoldConfig, name: str, column: pa.ChunkedArray) -> None:
    """A patient's id stands in a table, so a column with something longer, such as a text, must not pass for it."""
    longest = pc.max(pc.utf8_length(column)).as_py() or 0
    if longest > _LONGEST_PART:
        raise ConfigError(
            f"{config.named('group')}: column '{name}' has values of up to {longest:,} characters; name one with ids"
        )


def _check_codes(config: GoldConfig, name: str, column: pa.ChunkedArray) -> None:
    """Codes are shown in tables and reports, so a column with something longer, such as a text, must not pass for them."""
    longest = max((len(code) for value in pc.unique(column).to_pylist() if value for code in value.split(";")), default=0)
    if longest > _LONGEST_CODE:
        raise ConfigError(
            f"{config.named('labels')}: column '{name}' has values of up to {longest:,} characters; name one with codes"
        )


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


def _renamed(config: GoldConfig, message: str) -> str:
    keep = " or ".join(dict.fromkeys(config.named(key) for key in ("labels", "group", "slices", "where")))
    names = {"path": config.named("path"), "id": config.named("id"), "text": config.named("text"), "keep": keep}
    return re.sub(r"input\.(\w+)", lambda match: names.get(match[1], config.named(match[1])), message)
