"""Entities that the product finds in the test texts, against marked ones: F1s, boundaries, errors, each type, calibration.

spans.types: {<type of the corpus>: <type of the model>}    answers of the model's type count as the corpus's
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from engine.evaluation.spans import ALL, ERRORS, WAYS, Mention, counts_of
from engine.evaluation.spans import measure as span_figures
from engine.models.entities.corpus import Corpus, marked_mentions, members_of
from engine.models.entities.recipe import predict_entities, score_calibration
from engine.sources.labelled.splits import TEST
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.studies.whole import Fitted

METRICS = (
    *("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy"),
    *("index_both", "index_start", "index_end", *(f"error_{kind}" for kind in ERRORS)),
)
BY_TYPE = ("f1", "overlap_f1", "start_accuracy", "end_accuracy")
_COUNTS = tuple(dict.fromkeys(name for counts in WAYS.values() for name in counts))
Answers = list[tuple[str, Mention, float]]


@dataclass(frozen=True)
class SpansConfig:
    types: Mapping[str, str] = field(default_factory=dict)


def measure(model: Fitted, task: Task) -> Measured:
    """Figures with intervals over texts; `n` are the marked mentions, of calibration the found ones."""
    gold, answers = found(model, task)
    said: dict[str, list[Mention]] = {record_id: [] for record_id in gold}
    for record_id, mention, _ in answers:
        said[record_id].append(mention)
    figures = span_figures(gold, said, task.study.rounds)
    parts = {ALL: (METRICS, figures.mentions)}
    if len(figures.types) > 1:
        parts |= {f"type={kind}": (BY_TYPE, figures.marked[kind]) for kind in figures.types}
    rows = []
    for part, (metrics, n) in parts.items():
        estimates = {metric: figures.values[metric, part] for metric in metrics}
        rows += [Row(metric, each.value, each.low, each.high, n, part) for metric, each in estimates.items()]
    ece, brier = score_calibration(answers, gold)
    rows += [Row("ece", ece, n=len(answers)), Row("brier", brier, n=len(answers))]
    return Measured(rows, counts_by_text(gold, said))


def found(model: Fitted, task: Task) -> tuple[dict[str, list[Mention]], Answers]:
    """Marked mentions of the test texts by record id, and the product's answers there."""
    corpus = renamed(model.corpus.corpus, options(SpansConfig, task, "spans").types)  # type: ignore[attr-defined]
    members = members_of(corpus, TEST)
    documents = [corpus.documents[member] for member in members]
    return marked_mentions(corpus, members, corpus.types), predict_entities(model.spec, documents, corpus.marked)


def renamed(corpus: Corpus, names: Mapping[str, str]) -> Corpus:
    """The corpus with some types called as a model calls them."""
    if not names:
        return corpus

    def name(kind: str) -> str:
        return names.get(kind, kind)

    documents = [
        replace(each, spans=tuple(replace(span, type=name(span.type)) for span in each.spans if span.type in corpus.types))
        for each in corpus.documents
    ]
    marked = {dataset: frozenset(map(name, kinds)) for dataset, kinds in corpus.marked.items()}
    return replace(corpus, documents=documents, types=tuple(sorted(set(map(name, corpus.types)))), marked=marked)


def counts_by_text(
    gold: Mapping[str, Sequence[Mention]], said: Mapping[str, Sequence[Mention]], groups: Mapping[str, str] | None = None
) -> pa.Table:
    """The counts of each text that F1s are made of, and the group of texts that it belongs to."""
    columns: dict[str, list[int]] = {name: [] for name in _COUNTS}
    for record_id, mentions in gold.items():
        counts, _ = counts_of(set(mentions), set(said[record_id]))
        for name, column in columns.items():
            column.append(sum(count for (of, _), count in counts.items() if of == name))
    return pa.table({"record_id": list(gold), "group": [(groups or {}).get(name, name) for name in gold], **columns})
