"""Public sets of texts in which people marked what decides a label, in one form. Where lists of words stand in for people, the
set is called silver.

`hoc`: a hallmark of cancer of an abstract is marked by the sentences that experts assigned to it. `evidence`: whether an outcome
of a trial rose, fell or did not differ, by the passage that an expert chose. `tcga`: the site of a pathology report; silver:
names of the site and the phrases of a screening list. `openi`: whether a chest X-ray report is normal; silver: the head words of
the human codes of an abnormal one. Of several texts with the same words one stays, that of test before that of valid before that
of train.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.encoders import file_digest
from engine.errors import ConfigError
from engine.records import seed_of
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.studies.silver import Terms, heading_terms, screening_list, site_terms
from engine.text.plain import plain
from engine.text.units import sentences

Span = tuple[int, int]
Rows = Sequence[Mapping[str, Any]]
KEYWORDS = "../registry/reportability_keywords.txt"
_LAST_FIRST = (TEST, VALID, TRAIN)
_AND = re.compile(r"\s+AND\s*(?=[A-Z])")


@dataclass(frozen=True)
class MarkedText:
    """One text with its labels and the spans that were marked for each label; spans are half-open characters of `text`.

    Texts of one `group` are not independent of each other. `question` is the second text of a model that reads pairs.
    """

    record_id: str
    group: str
    split: str
    text: str
    labels: tuple[str, ...]
    spans: Mapping[str, Sequence[Span]]
    sentences: Sequence[Span]
    question: str | None = None

    @property
    def marks(self) -> list[Span]:
        """The spans of all labels."""
        return [span for spans in self.spans.values() for span in spans]


@dataclass(frozen=True)
class Form:
    """How the rows of a set become texts. `more` are further files that belong to it, from the folder of the main one."""

    columns: tuple[str, ...]
    read: Callable[[Rows, Path], list[MarkedText]]
    multi_label: bool = False
    paired: bool = False
    silver: bool = False
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class MarkedSet:
    """All texts of a set, and the SHA-256 of the files that they come from."""

    texts: Sequence[MarkedText]
    form: Form
    digest: str


def read_set(path: str) -> MarkedSet:
    """A set from its Parquet file; its columns say which one it is.

    Raises:
        ConfigError: the file is missing or none of a known set, a row has no known split, a passage is not where the file says it
            is, or the word list of a silver set is missing.
    """
    main = Path(path).expanduser()
    try:
        names = set(pq.read_schema(main).names)
    except (OSError, pa.ArrowInvalid):
        raise ConfigError(f"data.path: {main} is no Parquet file of a set of marked texts") from None
    form = next((form for form in FORMS.values() if names >= set(form.columns)), None)
    if form is None:
        raise ConfigError(f"data.path: {main.name} has the columns of none of the sets {', '.join(FORMS)}")
    files = [main, *(main.parent / name for name in form.more if (main.parent / name).is_file())]
    tables = [pq.read_table(file, columns=list(form.columns)) for file in files if file.suffix == main.suffix]
    rows = [row for table in tables for row in table.to_pylist()]
    unknown = sum(row["split"] not in _LAST_FIRST for row in rows)
    if unknown:
        raise ConfigError(f"data.path: rows of {main.name} with a split that is none of train, valid, test: {unknown}")
    digests = [file_digest(file) for file in files]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return MarkedSet(form.read(rows, main.parent), form, digest)


def draw(texts: Sequence[MarkedText], count: int, seed: int = 0) -> list[int]:
    """The numbers of `count` texts (0: all), chosen by their ids, in their order."""
    order = sorted(range(len(texts)), key=lambda number: seed_of(texts[number].record_id, "rationales", seed))
    return sorted(order[: count or None])


def unique(marked: Sequence[MarkedText]) -> list[MarkedText]:
    """One text of each wording, in the given order: that of test before that of valid before that of train."""
    best: dict[str, MarkedText] = {}
    for each in sorted(marked, key=lambda each: _LAST_FIRST.index(each.split)):
        best.setdefault(plain(each.text), each)
    kept = {id(each) for each in best.values()}
    return [each for each in marked if id(each) in kept]


def hallmarks(labels: Iterable[str]) -> set[str]:
    """The hallmarks in a sentence's labels: what stands before `--`. One text may hold several labels, joined by `AND`."""
    return {part.split("--")[0].strip() for label in labels for part in _AND.split(label)}


def _joined(parts: Sequence[str]) -> tuple[str, list[Span]]:
    """Parts as one text with a blank between two, and the span of each."""
    spans, place = [], 0
    for part in parts:
        spans.append((place, place + len(part)))
        place += len(part) + 1
    return " ".join(parts), spans


def _sentences(text: str) -> list[Span]:
    return [(int(start), int(end)) for start, end in zip(*sentences(text), strict=True)]


def _abstract(row: Mapping[str, Any]) -> MarkedText:
    """Labels come from the sentences: the set's own list of a text's hallmarks lacks those that stand behind an `AND`."""
    text, bounds = _joined(row["sentences"])
    spans: dict[str, list[Span]] = {}
    for bound, labels in zip(bounds, row["sentence_labels"], strict=True):
        # Sorted, since rationales are numbered in this order and that of a set changes from process to process.
        for name in sorted(hallmarks(labels)):
            spans.setdefault(name, []).append(bound)
    return MarkedText(row["pmid"], row["pmid"], row["split"], text, tuple(sorted(spans)), spans, bounds)


def _trial(row: Mapping[str, Any]) -> MarkedText:
    text, label, evidence = row["text"], row["label"], row["evidence"] or ()
    if any(each["end"] > len(text) or text[each["start"] : each["end"]] != each["text"] for each in evidence):
        raise ConfigError(f"data.path: the evidence of prompt {row['prompt_id']} is not where the file says")
    spans = {label: [(each["start"], each["end"]) for each in evidence]}
    # The outcome stands first, since a long question loses its end.
    question = f"{row['outcome'] or ''}: {row['intervention'] or ''} compared with {row['comparator'] or ''}"
    return MarkedText(str(row["prompt_id"]), row["pmcid"], row["split"], text, (label,), spans, _sentences(text), question)


def _pathology(rows: Rows, folder: Path) -> list[MarkedText]:
    wanted, hidden = screening_list(folder / KEYWORDS)
    texts, terms = [], {}
    for row in rows:
        label, text = row["icdo3_topography_3"], row["text"]
        if label is not None and (text or "").strip():
            if label not in terms:
                terms[label] = Terms((*wanted, *site_terms(label)), hidden)
            name = f"{row['ocr_source']}/{row['report_id']}"
            texts.append(_silver(name, row["patient_id"], row["split"], text, label, terms[label]))
    return unique(texts)


def _chest(rows: Rows, folder: Path) -> list[MarkedText]:
    """Reports that nobody coded are left out."""
    texts = []
    for row in rows:
        parts = [part for part in (row["findings"], row["impression"]) if part]
        headings = row["mesh_major"] or []
        if parts and headings and "No Indexing" not in headings:
            label, terms = ("normal", Terms(())) if row["is_normal"] else ("abnormal", Terms(heading_terms(headings)))
            texts.append(_silver(row["report_id"], row["report_id"], row["split"], _joined(parts)[0], label, terms))
    return unique(texts)


def _silver(name: str, group: str, split: str, text: str, label: str, terms: Terms) -> MarkedText:
    return MarkedText(name, group, split, text, (label,), {label: terms.spans(text)}, _sentences(text))


FORMS: Mapping[str, Form] = {
    "hoc": Form(
        ("pmid", "split", "sentences", "sentence_labels"), lambda rows, folder: [_abstract(row) for row in rows], multi_label=True
    ),
    "evidence": Form(
        ("prompt_id", "pmcid", "split", "intervention", "comparator", "outcome", "label", "text", "evidence"),
        lambda rows, folder: [_trial(row) for row in rows],
        paired=True,
    ),
    "tcga": Form(
        ("report_id", "patient_id", "split", "icdo3_topography_3", "ocr_source", "text"),
        _pathology,
        silver=True,
        more=("reports_textract_t14.parquet", KEYWORDS),
    ),
    "openi": Form(("report_id", "split", "findings", "impression", "mesh_major", "is_normal"), _chest, silver=True),
}
