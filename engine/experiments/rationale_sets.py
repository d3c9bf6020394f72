"""Texts in which people marked what decides, in one form: abstracts with their cancer hallmarks, and trials with a question.

`hoc`: a hallmark of an abstract is marked by the sentences that experts gave it; the sentences are joined by a blank.
`evidence`: whether an outcome rose, fell or did not differ, by the passage of the abstract that an expert chose.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.text.units import sentences

Span = tuple[int, int]
TASK, PAIR = "label", "question"
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
    """How a set is read. `file` is its name in the folder that the user gives."""

    file: str
    columns: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Marked]
    multi_label: bool
    paired: bool


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
    names = set(pq.read_schema(file).names)
    for kind, each in SETS.items():
        if names >= set(each.columns):
            return kind
    raise ConfigError(f"data.path: {file.name} has the columns of none of the sets {', '.join(SETS)}")


def read_marked(path: str) -> list[Marked]:
    """Every text of a set.

    Raises:
        ConfigError: it is no known set, or a marked passage is not where the file says.
    """
    chosen = SETS[kind_of(path)]
    return [chosen.read(row) for row in pq.read_table(marked_file(path), columns=list(chosen.columns)).to_pylist()]


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
        for name in hallmarks(labels):
            spans.setdefault(name, []).append(bound)
    return Marked(row["pmid"], row["pmid"], row["split"], text, tuple(sorted(spans)), spans, bounds)


def _trial(row: Mapping[str, Any]) -> Marked:
    text, label = row["text"], row["label"]
    if any(text[each["start"] : each["end"]] != each["text"] for each in row["evidence"]):
        raise ConfigError(f"data.path: the evidence of prompt {row['prompt_id']} is not where the file says")
    spans = {label: [(each["start"], each["end"]) for each in row["evidence"]]}
    asked = question(row["intervention"], row["comparator"], row["outcome"])
    bounds = [(int(a), int(b)) for a, b in zip(*sentences(text), strict=True)]
    return Marked(str(row["prompt_id"]), row["pmcid"], row["split"], text, (label,), spans, bounds, asked)


SETS: Mapping[str, MarkedSet] = {
    "hoc": MarkedSet("hoc.parquet", ("pmid", "split", "sentences", "sentence_labels"), _abstract, True, False),
    "evidence": MarkedSet(
        "prompts_abstracts.parquet",
        ("prompt_id", "pmcid", "split", "intervention", "comparator", "outcome", "label", "text", "evidence"),
        _trial,
        False,
        True,
    ),
}
