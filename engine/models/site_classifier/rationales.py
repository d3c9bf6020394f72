"""Rationales as training samples: the highlighted words of a report form a text of their own, with the report's label.

A rationale is what one annotator highlighted in one report for one label: one span or several, joined by a blank in the order of
the text. A complement is the report without them. Both inherit split and group of their report, and only those of train are used.
A rationale that is a report of another split, or as good as the whole of one, is left out, or the model would know that report
already; a word that is highlighted in another split too gives nothing away. (Metzner et al., arXiv 2507.21302, train on reports,
on reports and rationales, and on reports and further reports.)
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
from engine.sources.parquet import read_table
from engine.storage import storage_for
from engine.text.plain import plain

REJECTED = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("spans", pa.list_(pa.struct(MARK[:2]))),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
KINDS = ("rationale", "complement")
REASONS = ("unknown_record", "outside_report", "empty", "no_label", "other_label", "duplicate", "other_split")

# Of a report's characters; a highlight with more is as good as the whole report.
_WHOLE = 0.9

Span = tuple[int, int]


@dataclass(frozen=True)
class Rationale:
    """What one annotator highlighted in a report for one label (None if unknown): sorted spans [(start, end)] without overlap.

    `outside` are further spans that do not lie within the report.
    """

    spans: tuple[Span, ...]
    label: str | None = None
    annotator: str | None = None
    outside: tuple[Span, ...] = ()

    def text(self, report: str) -> str:
        return " ".join(report[start:end] for start, end in self.spans)

    def complement(self, report: str) -> str:
        """The report without the spans, with a blank in the place of each."""
        edges = [0, *(edge for span in self.spans for edge in span), len(report)]
        return " ".join(report[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start)


class RationaleTable:
    """Highlights in a file of their own: record_id, start and end, and label and annotator if known.

    Raises:
        ConfigError: there is no such file, or a column is missing or of the wrong type.
    """

    def __init__(self, path: str) -> None:
        self._marks: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
        self._seen: set[str] = set()
        for row in _read_table(path):
            self._marks[row.pop("record_id")].append(row)

    def add_to(self, reports: pa.Table) -> pa.Table:
        """Reports with their highlights.

        Raises:
            ConfigError: highlights belong to two reports, of this table or of earlier calls.
        """
        names = reports["record_id"].to_pylist()
        marked = [name for name in names if name in self._marks]
        if len(set(marked)) < len(marked) or not self._seen.isdisjoint(marked):
            raise ConfigError(
                "data.rationale_table: two reports have the same id; change one, or name a column in data.rationales"
            )
        self._seen.update(marked)
        at = reports.column_names.index("marks")
        return reports.set_column(at, "marks", pa.array([self._marks.get(name) for name in names], MARKS))

    def unknown(self) -> pa.Table:
        """The highlights of none of the reports of earlier calls, as `REJECTED`."""
        rows = [
            _rejected(name or "", row["label"], row["annotator"], [(row["start"], row["end"])], "unknown_record")
            for name, marks in self._marks.items()
            if name not in self._seen
            for row in marks
        ]
        return pa.Table.from_pylist(rows, schema=REJECTED)


def rationales(marks: Iterable[Mapping[str, Any]] | None, length: int) -> list[Rationale]:
    """The highlights of a report of `length` characters, one rationale for each label and annotator; overlapping, touching and
    repeated spans are merged. A span outside the report does not spoil the others."""
    groups: dict[tuple[Any, Any], tuple[list[Span], list[Span]]] = defaultdict(lambda: ([], []))
    for mark in marks or ():
        span = mark["start"], mark["end"]
        groups[mark["label"], mark["annotator"]][not 0 <= span[0] < span[1] <= length].append(span)
    return [Rationale(merge_spans(spans), *key, tuple(outside)) for key, (spans, outside) in groups.items()]


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, with overlapping and touching ones merged."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] and end > start:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def held_out_words(examples: pa.Table) -> set[bytes]:
    """The digests of the rationales of valid and test that are as good as their whole report, which train must not learn."""
    held = examples.filter(pc.and_(pc.is_valid(examples["marks"]), pc.not_equal(examples["split"], "train")))
    return {
        words_digest(words)
        for text, marks in zip(held["text"].to_pylist(), held["marks"].to_pylist(), strict=True)
        for rationale in rationales(marks, len(text or ""))
        if len(plain(words := rationale.text(text or ""))) > _WHOLE * len(plain(text))
    }


@dataclass
class Sampler:
    """Makes the samples of the given `kinds` for train, of some reports at a time.

    `tasks` says of each task whether it is multi-label. A rationale with a label of its own, which must be one of its report's,
    teaches that label alone, and only to the tasks that have it; the report's other labels are unknown. A rationale without a
    label teaches what its report does, and so does a complement. `vocabulary` are the codes of each task, `held_out` is from
    `held_out_words` of all reports, and `elsewhere` says whether a text with its second text is a report of valid or test.
    """

    kinds: Sequence[str]
    tasks: Mapping[str, bool]
    vocabulary: Mapping[str, Set[str]]
    held_out: Set[bytes]
    elsewhere: Callable[[str, str | None], bool] = lambda text, pair: False
    _seen: set[tuple[bytes, str]] = field(default_factory=set)

    def samples(self, examples: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The samples, with the columns of `examples`, and the unusable highlights as `REJECTED`.

        Args:
            examples: as from `ReportSurvey.examples`. A sample has its own `kind`, `text` and labels, its report's `record_id`
                with a suffix, and everything else from its report.
        """
        marked = examples.filter(pc.and_(pc.is_valid(examples["marks"]), pc.equal(examples["split"], "train")))
        rows, rejected = [], []
        for report in marked.to_pylist():
            origin, text = report["record_id"], report["text"]
            for number, rationale in enumerate(rationales(report["marks"], len(text))):
                who = rationale.label, rationale.annotator
                if rationale.outside:
                    rejected.append(_rejected(origin, *who, rationale.outside, "outside_report"))
                if not rationale.spans:
                    continue
                labels = self._labels(report, rationale)
                if isinstance(labels, str):
                    rejected.append(_rejected(origin, *who, rationale.spans, labels))
                    continue
                samples = {"rationale": (rationale.text(text), labels), "complement": (rationale.complement(text), {})}
                for kind in self.kinds:
                    words, changes = samples[kind]
                    if words.strip():
                        about = {"record_id": f"{origin}#{kind}{number}", "text": words, "kind": kind, "marks": None}
                        rows.append({**report, **changes, **about})
        return pa.Table.from_pylist(rows, schema=examples.schema), pa.Table.from_pylist(rejected, schema=REJECTED)

    def _labels(self, report: Mapping[str, Any], rationale: Rationale) -> dict[str, Any] | str:
        """The labels that a rationale teaches, or the reason why it is rejected."""
        text = rationale.text(report["text"])
        if not text.strip():
            return "empty"
        labels = self._taught(report, rationale.label)
        if isinstance(labels, str):
            return labels
        words = words_digest(text)
        if words in self.held_out or self.elsewhere(text, report["pair"]):
            return "other_split"
        if (words, str(labels)) in self._seen:
            return "duplicate"
        self._seen.add((words, str(labels)))
        return labels

    def _taught(self, report: Mapping[str, Any], label: str | None) -> dict[str, Any] | str:
        """The labels by task that a rationale of a label teaches, and the codes that are `unknown`; or why it teaches none."""
        if label is None:
            labels = {task: report[task] for task in self.tasks}
            return labels if any(value is not None for value in labels.values()) else "no_label"
        having = [task for task in self.tasks if label in self.vocabulary[task]]
        agreeing = [
            task for task in having if report[task] is None or label in (report[task] if self.tasks[task] else [report[task]])
        ]
        if not agreeing:
            return "other_label" if having else "no_label"
        labels = {task: ([label] if many else label) if task in agreeing else None for task, many in self.tasks.items()}
        listed = [task for task in agreeing if self.tasks[task]]
        others = {code for task in listed for code in (self.vocabulary[task] if report[task] is None else report[task])} - {label}
        return {**labels, "unknown": sorted(others) or None}


def words_digest(text: str) -> bytes:
    """The digest of a rationale's words, whatever their case and blanks."""
    return text_digest(plain(text))


def _rejected(origin: str, label: str | None, annotator: str | None, spans: Sequence[Span], reason: str) -> dict[str, Any]:
    """A row of `REJECTED`."""
    rows = [{"start": start, "end": end} for start, end in spans]
    return {"origin": origin, "label": label, "annotator": annotator, "spans": rows, "reason": reason}


def _read_table(path: str) -> list[dict[str, Any]]:
    key = "data.rationale_table"
    if storage_for(path).stat(path) is None:
        raise ConfigError(f"{key}: there is no file {path}")
    table = read_table(path, f"{key}: {path} cannot be read as Parquet; write it again")
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
