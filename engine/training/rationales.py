"""Rationales as training samples: what people marked in a report stands as a text of its own, with the report's label.

A rationale is what one annotator marked in one report for one label: one span or several, joined by a blank in the order of the
text. A complement is the report without them. Both inherit split and group of their report, only those of train are used, and a
rationale whose words stand as a rationale in another split too is left out, or it would be known there already (Metzner et al.,
arXiv 2507.21302, train on reports, on reports and rationales, and on reports and more reports).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import text_digest
from engine.storage import storage_for

_MARK = [
    pa.field("start", pa.int64()),
    pa.field("end", pa.int64()),
    pa.field("label", pa.string()),
    pa.field("annotator", pa.string()),
]
MARKS = pa.list_(pa.struct(_MARK))
REJECTED = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
KINDS = ("rationale", "complement")
REASONS = ("unknown_record", "outside_report", "empty", "no_label", "duplicate", "other_split")


@dataclass(frozen=True)
class Rationale:
    """What was marked in a report: sorted spans [(start, end)] without overlap; for which label and by whom, if that is said."""

    spans: tuple[tuple[int, int], ...]
    label: str | None = None
    annotator: str | None = None

    def text(self, report: str) -> str:
        return " ".join(report[start:end] for start, end in self.spans)

    def complement(self, report: str) -> str:
        """The report without the spans; what stood beside them keeps at least a blank between."""
        edges = [0, *(edge for span in self.spans for edge in span), len(report)]
        return " ".join(report[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start)


def highlights(column: pa.ChunkedArray, key: str) -> pa.Array:
    """A list column of highlights as `MARKS`: each has `start` and `end`, and `label` and `annotator` where they are said.

    Raises:
        ConfigError: the column is no list of such.
    """
    kind = column.type.value_type if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else None
    if kind is None or not pa.types.is_struct(kind) or not {"start", "end"} <= {field.name for field in kind}:
        raise ConfigError(f"{key}: the column must hold lists of highlights with start and end")
    column = column.combine_chunks()
    inner = column.values
    fields = {field.name for field in kind}
    parts = [inner.field(f.name) if f.name in fields else pa.nulls(len(inner), f.type) for f in _MARK]
    marks = _typed(dict(zip((f.name for f in _MARK), parts, strict=True)), key)
    offsets = column.offsets.cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, marks, type=MARKS, mask=column.is_null())


class SideTable:
    """Highlights that stand beside the reports: record_id, start and end, and label and annotator where they are said.

    Raises:
        ConfigError: no such file, or a column that is missing or of the wrong type.
    """

    def __init__(self, path: str) -> None:
        self._marks: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
        self._seen: set[str] = set()
        for row in _read_table(path):
            self._marks[row.pop("record_id")].append(row)

    def on(self, reports: pa.Table) -> pa.Table:
        """Reports with their highlights.

        Raises:
            ConfigError: highlights belong to two reports, here or among those that were asked about before.
        """
        names = reports["record_id"].to_pylist()
        mine = [name for name in names if name in self._marks]
        if len(set(mine)) < len(mine) or not self._seen.isdisjoint(mine):
            raise ConfigError(
                "data.rationale_table: two reports have the same id; change one, or name a column in data.rationales"
            )
        self._seen.update(mine)
        at = reports.column_names.index("marks")
        return reports.set_column(at, "marks", pa.array([self._marks.get(name) for name in names], MARKS))

    def unknown(self) -> pa.Table:
        """The highlights of no report that was asked about, as `REJECTED`."""
        lost = [row for name, rows in self._marks.items() if name not in self._seen for row in rows]
        rejected = [
            {"origin": "", "label": row["label"], "annotator": row["annotator"], "reason": "unknown_record"} for row in lost
        ]
        return pa.Table.from_pylist(rejected, schema=REJECTED)


def rationales(marks: Iterable[Mapping[str, Any]] | None) -> list[Rationale]:
    """A report's highlights: those of one label and annotator together, overlapping, touching and repeated ones as one."""
    found: dict[tuple[Any, Any], list[tuple[int, int]]] = defaultdict(list)
    for mark in marks or ():
        found[mark["label"], mark["annotator"]].append((mark["start"], mark["end"]))
    return [Rationale(merged(spans), label, annotator) for (label, annotator), spans in found.items()]


def merged(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Spans in order, overlapping and touching ones as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] and end > start:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def samples(
    examples: pa.Table, kinds: Sequence[str], labels: Mapping[str, bool], vocabulary: Mapping[str, Set[str]]
) -> tuple[pa.Table, pa.Table]:
    """Samples of the asked kinds for train, with the columns of `examples`, and what could not be used as `REJECTED`.

    Args:
        examples: as `load_examples` makes them, with `marks`. A sample's `kind` is its own, its `record_id` the report's with a
            suffix, everything else the report's.
        labels: the tasks, and whether each is multi-label. A rationale with a label of its own teaches that label alone, and
            only the tasks that know it; one without teaches what its report does.
        vocabulary: the codes that each task knows.
    """
    marked = examples.filter(pc.is_valid(examples["marks"]))
    reports = marked.to_pylist()
    each = [(report, rationales(report["marks"])) for report in reports]
    elsewhere = {
        _words(one, report["text"])
        for report, of_report in each
        if report["split"] != "train"
        for one in of_report
        if unfit(one, report["text"]) is None
    }
    rows, rejected, seen = [], [], set()
    for report, of_report in each:
        if report["split"] != "train":
            continue
        for number, one in enumerate(of_report):
            reason = unfit(one, report["text"])
            told = _told(report, one, labels, vocabulary)
            words = None if reason else _words(one, report["text"])
            reason = reason or _redundant(told, words, elsewhere, seen)
            if reason is not None:
                about = {"origin": report["record_id"], "label": one.label, "annotator": one.annotator}
                rejected.append({**about, "reason": reason})
                continue
            seen.add((words, str(told)))
            made = {"rationale": one.text(report["text"]), "complement": one.complement(report["text"])}
            for kind in kinds:
                if made[kind].strip():
                    own = {"record_id": f"{report['record_id']}#{kind}{number}", "text": made[kind], "kind": kind, "marks": None}
                    rows.append({**report, **told, **own})
    return pa.Table.from_pylist(rows, schema=examples.schema), pa.Table.from_pylist(rejected, schema=REJECTED)


def _redundant(told: Mapping[str, Any] | None, words: bytes, elsewhere: Set[bytes], seen: Set[tuple[bytes, str]]) -> str | None:
    """Why a rationale teaches nothing that may be taught."""
    if told is None:
        return "no_label"
    if words in elsewhere:
        return "other_split"
    return "duplicate" if (words, str(told)) in seen else None


def _told(
    origin: Mapping[str, Any], rationale: Rationale, labels: Mapping[str, bool], vocabulary: Mapping[str, Set[str]]
) -> dict[str, Any] | None:
    """What a rationale teaches each task, None where it teaches nothing."""
    if rationale.label is None:
        told = {task: origin[task] for task in labels}
    else:
        mine = {task: rationale.label in vocabulary[task] for task in labels}
        told = {task: ([rationale.label] if many else rationale.label) if mine[task] else None for task, many in labels.items()}
    return told if any(value is not None for value in told.values()) else None


def unfit(rationale: Rationale, report: str) -> str | None:
    """Why a rationale cannot be used with its report, None where it can."""
    if any(not 0 <= start < end <= len(report) for start, end in rationale.spans):
        return "outside_report"
    return None if rationale.text(report).strip() else "empty"


def _words(rationale: Rationale, report: str) -> bytes:
    """Two rationales are the same whatever their case and blanks."""
    return text_digest(" ".join(rationale.text(report).casefold().split()))


def codes(column: pa.ChunkedArray) -> list[str]:
    """All codes in a task's column, of one a row or of lists."""
    return (pc.list_flatten(column) if pa.types.is_list(column.type) else column).drop_null().to_pylist()


def damaged(error: Exception) -> bool:
    """Whether what Arrow raised tells of broken content: an error of the file system has a number, and want of memory is no
    fault of the file."""
    return not isinstance(error, MemoryError) and not (isinstance(error, OSError) and error.errno is not None)


def _read_table(path: str) -> list[dict[str, Any]]:
    key = "data.rationale_table"
    storage = storage_for(path)
    if storage.stat(path) is None:
        raise ConfigError(f"{key}: there is no file {path}")
    try:
        with storage.open(path) as stream:
            table = pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        if not damaged(error):
            raise
        raise ConfigError(f"{key}: {path} cannot be read as Parquet; write it again") from None
    missing = [name for name in ("record_id", "start", "end") if name not in table.column_names]
    if missing:
        raise ConfigError(f"{key}: it has no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    table = table.combine_chunks()
    columns = {
        f.name: table[f.name].combine_chunks() if f.name in table.column_names else pa.nulls(len(table), f.type) for f in _MARK
    }
    marks = _typed(columns, key).to_pylist()
    names = table["record_id"].cast(pa.string()).to_pylist()
    return [{"record_id": name, **mark} for name, mark in zip(names, marks, strict=True)]


def _typed(columns: Mapping[str, Any], key: str) -> pa.StructArray:
    if any(columns[name].null_count for name in ("start", "end")):
        raise ConfigError(f"{key}: start and end must not be null")
    try:
        return pa.StructArray.from_arrays([columns[f.name].cast(f.type) for f in _MARK], fields=_MARK)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        raise ConfigError(f"{key}: start and end must be whole numbers, label and annotator text") from None
