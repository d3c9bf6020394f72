"""A checkpoint's entities against marked ones in texts that it never learned from, as a reader of a report meets them.

The settings of an arm, beside those of the fit `shipped`:

    marked.split      the texts of this split alone, as training splits a corpus
    marked.types      types whose marks count; none: all
    marked.questions  a question of one's own for each of these types, which are then looked for alone
    marked.tumours    mentions of tumours count as this type, in marks and answers alike
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.evaluation.spans import ALL, Mention
from engine.evaluation.spans import measure as span_figures
from engine.models.base import ModelSpec
from engine.models.entities.recipe import answered
from engine.models.entities.tuning import exact_figures
from engine.models.prompt_mrc.recipe import SYSTEM
from engine.models.prompt_mrc.texts import with_tumours
from engine.sources.labelled import Document, Labelled, Omitted, Span, marked_types, read_documents
from engine.sources.labelled.splits import with_splits
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.studies.shipped import Checkpoint
from engine.studies.spans import counts_by_text

_METRICS = ("precision", "recall", "f1", "overlap_f1", "start_accuracy", "end_accuracy")
_BY_TYPE = ("precision", "recall", "f1", "overlap_f1")
# Where a reader would say that a sentence ends.
_STOP = re.compile(r"[.!?;]\s+\S|\n[ \t\r]*\n")


@dataclass(frozen=True)
class MarkedConfig:
    split: str | None = None
    types: tuple[str, ...] = ()
    questions: Mapping[str, str] = field(default_factory=dict)
    tumours: str | None = None


def measure(model: Checkpoint, task: Task) -> Measured:
    """Figures over all types and for each, with intervals over reports, and how many answers have a fault that can be seen
    without marks: more than one type at a place, a place where another type scores higher, a stop or a line end within."""
    config = options(MarkedConfig, task, "marked")
    documents = read_documents(Labelled(task.corpus, group="report_id"), Omitted())
    if config.split is not None:
        documents = [each for each in with_splits(documents) if each.split == config.split]
    documents = [_as_counted(each, config) for each in documents]
    marked = marked_types(documents, config.types or None)
    documents = [each for each in documents if marked[each.dataset]]
    asked = {"types": tuple(config.questions), "questions": dict(config.questions)}
    spec = ModelSpec(SYSTEM, str(model.folder), {"evidence": "none", **asked}, {"threads": task.threads})
    gold = {each.record_id: _mentions(each, marked[each.dataset]) for each in documents}
    answers: dict[str, list[Mention]] = {}
    faults: Counter[str] = Counter()
    for document, entities in answered(spec, documents):
        faults.update(_faults(document.text, entities))
        spans = [Span(each["start"], each["end"], each["type"]) for each in entities]
        counted = _as_counted(replace(document, spans=tuple(spans)), config)
        answers[document.record_id] = _mentions(counted, marked[document.dataset])
    groups = {each.record_id: each.more.get("group") or each.record_id for each in documents}
    figures = span_figures(gold, answers, task.study.rounds, groups=groups)
    parts = {ALL: (_METRICS, figures.mentions)}
    parts |= {f"type={kind}": (_BY_TYPE, figures.marked[kind]) for kind in figures.types}
    rows = []
    for part, (metrics, n) in parts.items():
        estimates = {metric: figures.values[metric, part] for metric in metrics}
        rows += [Row(metric, each.value, each.low, each.high, n, part) for metric, each in estimates.items()]
    rows += [Row(f"strings_{name}", value, n=len(documents)) for name, value in _strings(documents, gold, answers).items()]
    rows += [Row(name, float(faults[name]), n=faults["answers"]) for name in _FAULTS]
    return Measured(rows, counts_by_text(gold, answers, groups))


def _mentions(document: Document, types: Collection[str]) -> list[Mention]:
    return [(span.start, span.end, span.type) for span in document.spans if span.type in types]


_FAULTS = ("answers", "over_sentence", "over_line", "several_types", "negative_margin")


def _faults(text: str, entities: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many answers of one text have each fault."""
    types = Counter((each["start"], each["end"]) for each in entities)
    counts: Counter[str] = Counter(answers=len(entities))
    for each in entities:
        words = text[each["start"] : each["end"]]
        counts["over_sentence"] += _STOP.search(words) is not None
        counts["over_line"] += "\n" in words
        counts["several_types"] += types[each["start"], each["end"]] > 1
        counts["negative_margin"] += each["margin"] is not None and each["margin"] < 0
    return counts


def _as_counted(document: Document, config: MarkedConfig) -> Document:
    return document if config.tumours is None else with_tumours(document, config.tumours)


def _strings(
    documents: Sequence[Document], gold: Mapping[str, Sequence[Mention]], answers: Mapping[str, Sequence[Mention]]
) -> dict[str, float]:
    """Precision, recall and F1 over different strings, each with its type: those that are marked and answered anywhere."""
    texts = {each.record_id: each.text for each in documents}

    def different(mentions: Mapping[str, Sequence[Mention]]) -> set[tuple[str, str]]:
        return {
            (" ".join(texts[name][start:end].lower().split()), kind)
            for name, each in mentions.items()
            for start, end, kind in each
        }

    return dict(zip(("precision", "recall", "f1"), exact_figures(different(gold), different(answers)), strict=True))
