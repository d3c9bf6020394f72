"""Rationales as training samples: what people marked in a report stands as a text of its own, with the report's label.

A rationale is what one annotator marked in one report for one label: one span or several, joined by a blank in the order of the
text. A complement is the report without them. Both inherit split and group of their report, only those of train are used, and a
rationale whose words stand as a rationale in another split too is left out, or it would be known there already (Metzner et al.,
arXiv 2507.21302, train on reports, on reports and rationales, and on reports and more reports).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.records import text_digest
from engine.sources.labelled.values import MARK, MARKS, as_marks
from engine.sources.parquet import whole
from engine.storage import storage_for
from engine.text.plain import plain

SPANS = pa.list_(pa.struct(MARK[:2]))
REJECTED = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("spans", SPANS),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
KINDS = ("rationale", "complement")
REASONS = ("unknown_record", "outside_report", "empty", "no_label", "other_label", "duplicate", "other_split")


Span = tuple[int, int]


@dataclass(frozen=True)
class Rationale:
    """What was marked in a report: sorted spans [(start, end)] without overlap; for which label and by whom, if that is said.

    `outside` are further spans that do not lie within the report.
    """

    spans: tuple[Span, ...]
    label: str | None = None
    annotator: str | None = None
    outside: tuple[Span, ...] = ()

    def text(self, report: str) -> str:
        return " ".join(report[start:end] for start, end in self.spans)

    def complement(self, report: str) -> str:
        """The report without the spans; what stood beside them keeps at least a blank between."""
        edges = [0, *(edge for span in self.spans for edge in span), len(report)]
        return " ".join(report[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start)


class RationaleTable:
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
        lost = [(name, row) for name, rows in self._marks.items() if name not in self._seen for row in rows]
        told = [
            {"origin": name or "", **_about(row["label"], row["annotator"], [(row["start"], row["end"])], "unknown_record")}
            for name, row in lost
        ]
        return pa.Table.from_pylist(told, schema=REJECTED)


def rationales(marks: Iterable[Mapping[str, Any]] | None, length: int) -> list[Rationale]:
    """The highlights of a report of `length` characters: those of one label and annotator together, overlapping, touching and
    repeated ones as one. One outside the report does not take the others with it."""
    found: dict[tuple[Any, Any], tuple[list[Span], list[Span]]] = defaultdict(lambda: ([], []))
    for mark in marks or ():
        span = mark["start"], mark["end"]
        found[mark["label"], mark["annotator"]][not 0 <= span[0] < span[1] <= length].append(span)
    return [Rationale(merged(spans), *who, tuple(outside)) for who, (spans, outside) in found.items()]


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, overlapping and touching ones as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] and end > start:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def held_words(examples: pa.Table) -> set[bytes]:
    """What stands for the words of each rationale of valid and test: train must not learn them."""
    held = examples.filter(pc.and_(pc.is_valid(examples["marks"]), pc.not_equal(examples["split"], "train")))
    return {
        same_words(one.text(text))
        for text, marks in zip(held["text"].to_pylist(), held["marks"].to_pylist(), strict=True)
        for one in rationales(marks, len(text or ""))
        if unfit(one, text or "") is None
    }


@dataclass
class Sampler:
    """Makes samples of the asked `kinds` for train, of some reports at a time.

    `labels` are the tasks, and whether each is multi-label. A rationale with a label of its own, which must be one of its
    report's, teaches that label alone, and only the tasks that know it; of its report's other labels it says neither yes nor
    no. One without teaches what its report does, and so does a complement. `vocabulary` are the codes that each task knows,
    `held` what `held_words` found in all reports; `elsewhere` says of a text and its second one whether it is a report of valid
    or test.
    """

    kinds: Sequence[str]
    labels: Mapping[str, bool]
    vocabulary: Mapping[str, Set[str]]
    held: Set[bytes]
    elsewhere: Callable[[str, str | None], bool] = lambda text, pair: False
    _seen: set[tuple[bytes, str]] = field(default_factory=set)

    def made(self, examples: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The samples, with the columns of `examples`, and what could not be used as `REJECTED`.

        Args:
            examples: as `ReportSurvey.examples` makes them. A sample's `kind` is its own, its `record_id` the report's with
                a suffix, everything else the report's.
        """
        marked = examples.filter(pc.and_(pc.is_valid(examples["marks"]), pc.equal(examples["split"], "train")))
        rows, rejected = [], []
        for report in marked.to_pylist():
            for number, one in enumerate(rationales(report["marks"], len(report["text"]))):
                who = one.label, one.annotator
                if one.outside:
                    rejected.append({"origin": report["record_id"], **_about(*who, one.outside, "outside_report")})
                if not one.spans:
                    continue
                told = self._taught(report, one)
                if isinstance(told, str):
                    rejected.append({"origin": report["record_id"], **_about(*who, one.spans, told)})
                    continue
                made = {"rationale": (one.text(report["text"]), told), "complement": (one.complement(report["text"]), {})}
                for kind in self.kinds:
                    text, taught = made[kind]
                    if text.strip():
                        own = {"record_id": f"{report['record_id']}#{kind}{number}", "text": text, "kind": kind, "marks": None}
                        rows.append({**report, **taught, **own})
        return pa.Table.from_pylist(rows, schema=examples.schema), pa.Table.from_pylist(rejected, schema=REJECTED)

    def _taught(self, report: Mapping[str, Any], one: Rationale) -> dict[str, Any] | str:
        """What a rationale teaches, or why it teaches nothing."""
        told = unfit(one, report["text"]) or _told(report, one, self.labels, self.vocabulary)
        if isinstance(told, str):
            return told
        words = same_words(one.text(report["text"]))
        if words in self.held or self.elsewhere(one.text(report["text"]), report["pair"]):
            return "other_split"
        if (words, str(told)) in self._seen:
            return "duplicate"
        self._seen.add((words, str(told)))
        return told


def _about(label: str | None, annotator: str | None, spans: Sequence[Span], reason: str) -> dict[str, Any]:
    """A row of `REJECTED` but for its `origin`."""
    told = [{"start": start, "end": end} for start, end in spans]
    return {"label": label, "annotator": annotator, "spans": told, "reason": reason}


def _told(
    origin: Mapping[str, Any], rationale: Rationale, labels: Mapping[str, bool], vocabulary: Mapping[str, Set[str]]
) -> dict[str, Any] | str:
    """What a rationale teaches each task, and which codes it says nothing of (`unknown`); or why it teaches nothing."""
    label = rationale.label
    if label is None:
        told = {task: origin[task] for task in labels}
        return told if any(value is not None for value in told.values()) else "no_label"
    knowing = [task for task in labels if label in vocabulary[task]]
    agreeing = [task for task in knowing if origin[task] is None or label in (origin[task] if labels[task] else [origin[task]])]
    if not agreeing:
        return "other_label" if knowing else "no_label"
    told = {task: ([label] if many else label) if task in agreeing else None for task, many in labels.items()}
    others = {
        code for task in agreeing if labels[task] for code in (vocabulary[task] if origin[task] is None else origin[task])
    } - {label}
    return {**told, "unknown": sorted(others) or None}


def unfit(rationale: Rationale, report: str) -> str | None:
    """Why a rationale cannot be used with its report, None where it can."""
    if not rationale.spans:
        return "outside_report"
    return None if rationale.text(report).strip() else "empty"


def same_words(text: str) -> bytes:
    """What stands for a rationale's words: two are the same whatever their case and blanks."""
    return text_digest(plain(text))


def _read_table(path: str) -> list[dict[str, Any]]:
    key = "data.rationale_table"
    if storage_for(path).stat(path) is None:
        raise ConfigError(f"{key}: there is no file {path}")
    table = whole(path, f"{key}: {path} cannot be read as Parquet; write it again")
    missing = [name for name in ("record_id", "start", "end") if name not in table.column_names]
    if missing:
        raise ConfigError(f"{key}: it has no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    table = table.combine_chunks()
    columns = {
        f.name: table[f.name].combine_chunks() if f.name in table.column_names else pa.nulls(len(table), f.type) for f in MARK
    }
    marks = as_marks(columns, key).to_pylist()
    names = table["record_id"].cast(pa.string()).to_pylist()
    return [{"record_id": name, **mark} for name, mark in zip(names, marks, strict=True)]
