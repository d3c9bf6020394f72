"""Texts with what decides marked in them, in one form: by people, or by lists of words, which is called silver everywhere.

`hoc`: a hallmark of an abstract is marked by the sentences that experts gave it; the sentences are joined by a blank.
`evidence`: whether an outcome rose, fell or did not differ, by the passage of the abstract that an expert chose.
`tcga_silver`: the site of a pathology report; marked are the names of that site, and the phrases of a list that stands beside the
set by which reportable tumours are found. The reports of both tables are read.
`openi`: whether a chest X-ray report is normal; of an abnormal one the head words of its human codes are marked where they stand
in findings and impression, which are joined by a blank. Reports that nobody coded are left out.
Of several texts with the same words one stays, that of test before that of valid before that of train.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.encoders import file_digest
from engine.errors import ConfigError
from engine.experiments.run import Result
from engine.experiments.silver import NEGATIVE, POSITIVE, Terms, heading_terms, keywords, site_terms
from engine.sources.parquet import whole
from engine.text.plain import plain
from engine.text.units import sentences

Span = tuple[int, int]
TASK, PAIR = "label", "question"
KEYWORDS = "../registry/reportability_keywords.txt"
_LAST_FIRST = ("test", "valid", "train")
_AND = re.compile(r"\s+AND\s*(?=[A-Z])")


@dataclass(frozen=True)
class Marked:
    """One text with its labels and, for each, the spans that people marked for it; all spans are half-open characters of `text`.

    Texts of one `group` are not independent of each other. `question` is the second text of a paired model.
    """

    record_id: str
    group: str
    split: str
    text: str
    labels: tuple[str, ...]
    spans: Mapping[str, Sequence[Span]]
    sentences: Sequence[Span]
    question: str | None = None


@dataclass(frozen=True)
class MarkedSet:
    """How a set is read. `file` is its name in the folder that the user gives, `more` files with further rows or lists.

    `read` makes texts of rows and the folder; `silver` says that no person marked them.
    """

    file: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[Mapping[str, Any]], Path], list[Marked]]
    multi_label: bool
    paired: bool
    silver: bool = False
    more: tuple[str, ...] = ()


def marked_file(path: str) -> Path:
    """The Parquet file of a set, where `path` is that file or its folder.

    Raises:
        ConfigError: there is no file of a known set.
    """
    found = Path(path).expanduser()
    files = [found / each.file for each in SETS.values()] if found.is_dir() else [found]
    there = [file for file in files if file.is_file()]
    if len(there) != 1:
        raise ConfigError(f"data.path: {found} has not one of {', '.join(each.file for each in SETS.values())}; give its folder")
    return there[0]


def kind_of(path: str) -> str:
    """The set that a file holds, told by its columns.

    Raises:
        ConfigError: there is no file, or it is none of `SETS`.
    """
    file = marked_file(path)
    try:
        names = set(pq.read_schema(file).names)
    except pa.ArrowInvalid:
        raise ConfigError(f"data.path: {file.name} is no Parquet file; give a set's file or folder") from None
    for kind, each in SETS.items():
        if names >= set(each.columns):
            return kind
    raise ConfigError(f"data.path: {file.name} has the columns of none of the sets {', '.join(SETS)}")


def read_marked(path: str) -> list[Marked]:
    """Every text of a set.

    Raises:
        ConfigError: it is no known set, a row has no known split, a marked passage is not where the file says, or the list of a
            silver set is missing.
    """
    chosen, main = SETS[kind_of(path)], marked_file(path)
    tables = [file for file in _files(path) if file.suffix == main.suffix]
    told = f"data.path: {main.parent} has a table that cannot be read as Parquet; write it again"
    rows = [row for file in tables for row in whole(str(file), told, list(chosen.columns)).to_pylist()]
    lost = sum(row["split"] not in _LAST_FIRST for row in rows)
    if lost:
        known = ", ".join(reversed(_LAST_FIRST))
        raise ConfigError(f"data.path: rows of {main.name} with a split that is none of {known}: {lost}; name their split")
    return chosen.read(rows, main.parent)


def marked_digest(path: str) -> str:
    """The SHA-256 of everything that a set is read from."""
    digests = [file_digest(file) for file in _files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _files(path: str) -> list[Path]:
    main = marked_file(path)
    return [main, *(main.parent / name for name in SETS[kind_of(path)].more if (main.parent / name).is_file())]


def training_table(marked: Sequence[Marked], multi_label: bool) -> pa.Table:
    """The texts as the training reads them: `record_id`, `group`, `split`, `text`, `question` and `label`.

    With `multi_label` a label is a list, and a text with none is one that teaches a no to every label.
    """
    label = pa.list_(pa.string()) if multi_label else pa.string()
    schema = pa.schema([(name, pa.string()) for name in ("record_id", "group", "split", "text", "question")] + [(TASK, label)])
    rows = [
        {**{name: getattr(each, name) for name in schema.names[:-1]}, TASK: list(each.labels) if multi_label else each.labels[0]}
        for each in marked
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def marks(each: Marked) -> list[Mapping[str, Any]]:
    """A text's marked spans as `engine.models.site_classifier.rationales.MARKS` has them."""
    return [{"start": a, "end": b, "label": label, "annotator": None} for label, spans in each.spans.items() for a, b in spans]


def joined(parts: Sequence[str]) -> tuple[str, list[Span]]:
    """Sentences as one text with a blank between two, and where each lies in it."""
    spans, place = [], 0
    for part in parts:
        spans.append((place, place + len(part)))
        place += len(part) + 1
    return " ".join(parts), spans


def hallmarks(labels: Iterable[str]) -> set[str]:
    """The hallmarks that a sentence's labels name: what stands before the first `--`.

    Several labels may stand in one text, with `AND` before the next one.
    """
    return {part.split("--")[0].strip() for label in labels for part in _AND.split(label)}


def question(intervention: str | None, comparator: str | None, outcome: str | None) -> str:
    """The question of a trial in one line. The outcome stands first, since a long question loses its end."""
    return f"{outcome or ''}: {intervention or ''} compared with {comparator or ''}"


def _abstract(row: Mapping[str, Any]) -> Marked:
    """Labels come from the sentences: the set's own list of a text's hallmarks lacks those that stand behind an `AND`."""
    text, bounds = joined(row["sentences"])
    spans: dict[str, list[Span]] = {}
    for bound, labels in zip(bounds, row["sentence_labels"], strict=True):
        # A set has another order in every process, and rationales are numbered by that of their labels.
        for name in sorted(hallmarks(labels)):
            spans.setdefault(name, []).append(bound)
    return Marked(row["pmid"], row["pmid"], row["split"], text, tuple(sorted(spans)), spans, bounds)


def _trial(row: Mapping[str, Any]) -> Marked:
    text, label = row["text"], row["label"]
    evidence = row["evidence"] or ()
    if any(each["end"] > len(text) or text[each["start"] : each["end"]] != each["text"] for each in evidence):
        raise ConfigError(f"data.path: the evidence of prompt {row['prompt_id']} is not where the file says")
    spans = {label: [(each["start"], each["end"]) for each in evidence]}
    asked = question(row["intervention"], row["comparator"], row["outcome"])
    bounds = [(int(a), int(b)) for a, b in zip(*sentences(text), strict=True)]
    return Marked(str(row["prompt_id"]), row["pmcid"], row["split"], text, (label,), spans, bounds, asked)


def _pathology(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Marked]:
    known = keywords(folder / KEYWORDS)
    found, terms = [], {}
    for row in rows:
        label, text = row["icdo3_topography_3"], row["text"]
        if label is None or not (text or "").strip():
            continue
        if label not in terms:
            terms[label] = Terms((*known.get(POSITIVE, ()), *site_terms(label)), known.get(NEGATIVE, ()))
        name = f"{row['ocr_source']}/{row['report_id']}"
        found.append(_silver(name, row["patient_id"], row["split"], text, label, terms[label]))
    return unique(found)


def _chest(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Marked]:
    found = []
    for row in rows:
        parts = [part for part in (row["findings"], row["impression"]) if part]
        headings = row["mesh_major"] or []
        if parts and headings and "No Indexing" not in headings:
            text, label = joined(parts)[0], "normal" if row["is_normal"] else "abnormal"
            terms = Terms(() if row["is_normal"] else heading_terms(headings))
            found.append(_silver(row["report_id"], row["report_id"], row["split"], text, label, terms))
    return unique(found)


def _silver(name: str, group: str, split: str, text: str, label: str, terms: Terms) -> Marked:
    bounds = [(int(a), int(b)) for a, b in zip(*sentences(text), strict=True)]
    return Marked(name, group, split, text, (label,), {label: terms.spans(text)}, bounds)


def unique(marked: Sequence[Marked]) -> list[Marked]:
    """One text of each wording, in the order given: that of test before that of valid before that of train."""
    best: dict[str, Marked] = {}
    for each in sorted(marked, key=lambda each: _LAST_FIRST.index(each.split)):
        best.setdefault(plain(each.text), each)
    kept = {id(each) for each in best.values()}
    return [each for each in marked if id(each) in kept]


def _each(read: Callable[[Mapping[str, Any]], Marked]) -> Callable[[Sequence[Mapping[str, Any]], Path], list[Marked]]:
    return lambda rows, folder: [read(row) for row in rows]


SETS: Mapping[str, MarkedSet] = {
    "hoc": MarkedSet("hoc.parquet", ("pmid", "split", "sentences", "sentence_labels"), _each(_abstract), True, False),
    "evidence": MarkedSet(
        "prompts_abstracts.parquet",
        ("prompt_id", "pmcid", "split", "intervention", "comparator", "outcome", "label", "text", "evidence"),
        _each(_trial),
        False,
        True,
    ),
    "tcga_silver": MarkedSet(
        "reports_ocr.parquet",
        ("report_id", "patient_id", "split", "icdo3_topography_3", "ocr_source", "text"),
        _pathology,
        False,
        False,
        silver=True,
        more=("reports_textract_t14.parquet", KEYWORDS),
    ),
    "openi": MarkedSet(
        "reports.parquet",
        ("report_id", "split", "findings", "impression", "mesh_major", "is_normal"),
        _chest,
        False,
        False,
        silver=True,
    ),
}


def named_silver(results: Iterable[Result], kind: str) -> list[Result]:
    """Results with a note at those that rest on marks which no person made (`cov_`), if the set's are such."""
    note = "silver marks" if SETS[kind].silver else ""
    return [replace(each, note=each.note or note) if each.metric.startswith("cov_") else each for each in results]
