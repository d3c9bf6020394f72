"""Rationales as training samples: what people marked in a report stands as a text of its own, with the report's label.

A rationale is what one annotator marked in one report for one label: one span or several, joined by a blank in the order of the
text. A complement is the report without them. Both inherit split and group of their report, only those of train are used, and a
rationale whose words stand as a rationale in another split too is left out, or it would be known there already (Metzner et al.,
arXiv 2507.21302, train on reports, on reports and rationales, and on reports and more reports).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.records import text_digest

MARKS = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("annotator", pa.string()),
    ]
)
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


def read_marks(path: str) -> pa.Table:
    """A side table of highlights as `MARKS`: record_id, start, end, and label and annotator where it has them.

    Raises:
        ConfigError: no such file, a missing column, or a column of the wrong type.
    """
    if not Path(path).is_file():
        raise ConfigError(f"data.rationales: there is no file {path}")
    known = pq.read_schema(path).names
    missing = [field.name for field in MARKS if not field.nullable and field.name not in known]
    if missing:
        raise ConfigError(f"data.rationales: {Path(path).name} has no column {', '.join(missing)}; it has {', '.join(known)}")
    table = pq.read_table(path, columns=[name for name in MARKS.names if name in known])
    columns = [table[f.name] if f.name in known else pa.nulls(len(table), f.type) for f in MARKS]
    return _typed(pa.table(columns, names=MARKS.names), "data.rationales")


def marks_of_column(record_ids: Sequence[str], column: pa.ChunkedArray) -> pa.Table:
    """Highlights that stand in a list column of the reports, each with `start` and `end`, and `label` and `annotator` if it has.

    Raises:
        ConfigError: the column is no list of such.
    """
    kind = column.type.value_type if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else None
    if kind is None or not pa.types.is_struct(kind) or not {"start", "end"} <= {field.name for field in kind}:
        raise ConfigError("data.rationales: the column must hold lists of highlights with start and end")
    rows = [
        {"record_id": name, **{key: mark.get(key) for key in MARKS.names[1:]}}
        for name, marks in zip(record_ids, column.to_pylist(), strict=True)
        for mark in marks or ()
    ]
    names = {key: [row[key] for row in rows] for key in MARKS.names}
    return _typed(pa.table(names), "data.rationales")


def rationales(marks: pa.Table) -> dict[str, list[Rationale]]:
    """Highlights by report: those of one label and annotator together, overlapping, touching and repeated ones as one."""
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for mark in marks.to_pylist():
        found[mark["record_id"], mark["label"], mark["annotator"]].append((mark["start"], mark["end"]))
    grouped: dict[str, list[Rationale]] = defaultdict(list)
    for (name, label, annotator), spans in found.items():
        grouped[name].append(Rationale(merged(spans), label, annotator))
    return dict(grouped)


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
    examples: pa.Table, marked: Mapping[str, Sequence[Rationale]], kinds: Sequence[str], labels: Mapping[str, bool]
) -> tuple[pa.Table, pa.Table]:
    """Samples of the asked kinds for train, with the columns of `examples`, and what could not be used as `REJECTED`.

    Args:
        examples: as `load_examples` gives them; `kind` of the samples is theirs, `record_id` the report's with a suffix.
        labels: the tasks, and whether each is multi-label. A rationale with a label of its own teaches that label alone, and
            only the tasks that know it; one without teaches what its report does.
    """
    known = {name: row for row, name in enumerate(examples["record_id"].to_pylist())}
    texts, splits = examples["text"].to_pylist(), examples["split"].to_pylist()
    elsewhere = _elsewhere(marked, known, texts, splits)
    vocabulary = {task: set(_flat(examples[task])) for task in labels}
    rows, rejected, seen = [], [], set()
    for name, of_report in marked.items():
        for number, rationale in enumerate(of_report):
            reason, told = _unfit(rationale, name, known, texts), None
            if reason is None:
                if splits[known[name]] != "train":
                    continue
                origin, report = examples.slice(known[name], 1).to_pylist()[0], texts[known[name]]
                told = _told(origin, rationale, labels, vocabulary)
                words = text_digest(_plain(rationale.text(report)))
                reason = _redundant(told, words, elsewhere, seen)
            if reason is not None:
                rejected.append({"origin": name, "label": rationale.label, "annotator": rationale.annotator, "reason": reason})
                continue
            seen.add((words, str(told)))
            made = {"rationale": rationale.text(report), "complement": rationale.complement(report)}
            for kind in kinds:
                if made[kind].strip():
                    rows.append({**origin, **told, "record_id": f"{name}#{kind}{number}", "text": made[kind], "kind": kind})
    return pa.Table.from_pylist(rows, schema=examples.schema), pa.Table.from_pylist(rejected, schema=REJECTED)


def _redundant(told: Mapping[str, Any] | None, words: bytes, elsewhere: Set[bytes], seen: Set[tuple[bytes, str]]) -> str | None:
    """Why a rationale teaches nothing that may be taught."""
    if told is None:
        return "no_label"
    if words in elsewhere:
        return "other_split"
    return "duplicate" if (words, str(told)) in seen else None


def _told(
    origin: Mapping[str, Any], rationale: Rationale, labels: Mapping[str, bool], vocabulary: Mapping[str, set[str]]
) -> dict[str, Any] | None:
    """What a rationale teaches each task, None where it teaches nothing."""
    if rationale.label is None:
        told = {task: origin[task] for task in labels}
    else:
        mine = {task: rationale.label in vocabulary[task] for task in labels}
        told = {task: ([rationale.label] if many else rationale.label) if mine[task] else None for task, many in labels.items()}
    return told if any(value is not None for value in told.values()) else None


def _unfit(rationale: Rationale, name: str, known: Mapping[str, int], texts: Sequence[str]) -> str | None:
    if name not in known:
        return "unknown_record"
    report = texts[known[name]]
    if any(not 0 <= start < end <= len(report) for start, end in rationale.spans):
        return "outside_report"
    return None if rationale.text(report).strip() else "empty"


def _elsewhere(
    marked: Mapping[str, Sequence[Rationale]], known: Mapping[str, int], texts: Sequence[str], splits: Sequence[str]
) -> set[bytes]:
    """The words of rationales in valid and test."""
    return {
        text_digest(_plain(rationale.text(texts[known[name]])))
        for name, of_report in marked.items()
        if name in known and splits[known[name]] != "train"
        for rationale in of_report
        if _unfit(rationale, name, known, texts) is None
    }


def _plain(text: str) -> str:
    """Two rationales are the same whatever their case and blanks."""
    return " ".join(text.casefold().split())


def _flat(column: pa.ChunkedArray) -> list[str]:
    return (pc.list_flatten(column) if pa.types.is_list(column.type) else column).drop_null().to_pylist()


def _typed(table: pa.Table, key: str) -> pa.Table:
    blank = [field.name for field in MARKS if not field.nullable and table[field.name].null_count]
    if blank:
        raise ConfigError(f"{key}: {', '.join(blank)} must not be null")
    try:
        return table.cast(MARKS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        raise ConfigError(f"{key}: start and end must be whole numbers, record_id, label and annotator text") from None
