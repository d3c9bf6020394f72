"""Models trained on texts in which people marked what decides, and the labels that people and model agree on.

Explained are the labels of a test text that people gave and the model gives too: for a label that the model does not give,
people's reasons cannot be its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.baseline import fit_and_score
from engine.models.base import System
from engine.models.columns import matrix
from engine.sources.labelled.splits import TEST
from engine.sources.labelled.values import MARKS
from engine.studies.compare import GIVEN, LABELS
from engine.studies.explaining import Options, Target, Text, Texts, answers_of
from engine.studies.made import fit_on
from engine.studies.marked_sets import MarkedSet, MarkedText, draw, read_set
from engine.studies.results import Measured
from engine.studies.run import Model, Task
from engine.studies.settings import options
from engine.studies.site_classifier.codes import estimates

TASK, PAIR = "label", "question"
MODEL, TFIDF = "model", "tfidf"
# Of the draw of texts for a method that explains some of them.
_SEED = 7
_set = lru_cache(maxsize=2)(read_set)


@dataclass(frozen=True)
class _Options:
    """Settings `marked.<name>`: whose answers are measured, the model's or those of TF-IDF with logistic regression, which learns
    from train and valid; None for neither."""

    answers: str | None = None


def fit(task: Task) -> Model:
    """A model of the set's labels. `data.samples` are the kinds of samples that train gets from the marks; without it, none.

    Raises:
        ConfigError: samples are wanted of texts with several labels.
    """
    marked = _set(task.corpus)
    table, multi_label = training_table(marked), marked.form.multi_label
    data = {"data.group": "group", "data.labels": {TASK: TASK}, "data.multi_label": [TASK] if multi_label else []}
    if marked.form.paired:
        data["data.pair"] = PAIR
    if task.settings.get("data.samples"):
        if multi_label:
            raise ConfigError("data.samples: a rationale of one label would be a no to the others of its text; leave it out")
        marks = [
            [{"start": start, "end": end, "label": label} for label, spans in text.spans.items() for start, end in spans]
            for text in marked.texts
        ]
        table, data["data.rationales"] = table.append_column("marks", pa.array(marks, MARKS)), "marks"
    return fit_on(table, task, data, ("explain",))


def training_table(marked: MarkedSet) -> pa.Table:
    """The texts as the training reads them. A text of many labels that has none teaches a no to every label."""
    label = pa.list_(pa.string()) if marked.form.multi_label else pa.string()
    names = ("record_id", "group", "split", "text", PAIR)
    columns = {name: pa.array([getattr(text, name) for text in marked.texts], pa.string()) for name in names}
    labels = [list(text.labels) if marked.form.multi_label else text.labels[0] for text in marked.texts]
    return pa.table({**columns, TASK: pa.array(labels, label)})


class AgreedLabels(Texts):
    """The labels that both people and model give."""

    def targets(self, system: System, prepared: pa.Table) -> list[Target]:
        predicted = given_labels(system, prepared)
        agreed = [
            [label for label in sorted(text.marks) if label in labels] for text, labels in zip(self.texts, predicted, strict=True)
        ]
        return [Target(number, label) for number, labels in enumerate(agreed) for label in labels]

    def drawn(self, targets: Sequence[Target], count: int) -> list[int]:
        numbers = sorted({target.text for target in targets})
        chosen = {numbers[place] for place in draw([self.texts[number] for number in numbers], count, _SEED)}
        return [at for at, target in enumerate(targets) if target.text in chosen]


def texts(task: Task, settings: Options) -> AgreedLabels:
    return AgreedLabels(
        [Text(each.record_id, each.group, each.text, each.sentences, each.question, each.spans) for each in _test(task)]
    )


def measure(model: Model, task: Task) -> Measured:
    """Accuracy (every label right), micro- and macro-F1 of the model or of its rival."""
    whose = options(_Options, task, "marked").answers
    if whose is None:
        return Measured([])
    marked, test = _set(task.corpus), _test(task)
    if whose == TFIDF:
        labels, predicted = _rival(marked, test)
    else:
        answers = answers_of(model, task, options(Options, task, "explain"))
        labels = list(answers.system().known()[TASK])
        predicted = flags(given_labels(answers.system(), answers.prepared), labels)
    gold = flags([each.labels for each in test], labels)
    names = {name: [getattr(each, name) for each in test] for name in ("record_id", "group")}
    table = pa.table({**names, LABELS: gold.tolist(), GIVEN: predicted.tolist()})
    return Measured(estimates(table, ("accuracy", "micro_f1", "macro_f1"), task.study.rounds), table)


def given_labels(system: System, prepared: pa.Table) -> list[list[str]]:
    """The labels that a model gives to each text."""
    logits, labels = matrix(system.scores(prepared)[f"{TASK}_logits"]), list(system.known()[TASK])
    multi_label = system.config.task(TASK).multi_label  # type: ignore[attr-defined]
    chosen = logits > 0 if multi_label else logits == logits.max(-1, keepdims=True)
    return [[label for label, yes in zip(labels, row, strict=True) if yes] for row in chosen]


def _rival(marked: MarkedSet, test: Sequence[MarkedText]) -> tuple[list[str], NDArray]:
    """The labels of TF-IDF with logistic regression, each text with its question in front."""
    rest = [each for each in marked.texts if each.split != TEST]
    labels = sorted({label for each in rest for label in each.labels})
    train_texts, test_texts = ([f"{each.question or ''}\n{each.text}" for each in texts] for texts in (rest, test))
    if not marked.form.multi_label:
        answers = fit_and_score(train_texts, [each.labels[0] for each in rest], test_texts).predicted
        return labels, flags([[label] for label in answers], labels)
    # One yes or no for each label, as the model has it; a probability above one half is a yes.
    predicted = [
        fit_and_score(train_texts, [str(label in each.labels) for each in rest], test_texts).predicted == "True"
        for label in labels
    ]
    return labels, np.array(predicted).T


def flags(labels: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray:
    """Which of the labels `names` each text has, [texts, labels]."""
    return np.array([[name in row for name in names] for row in labels], dtype=bool).reshape(len(labels), len(names))


def _test(task: Task) -> list[MarkedText]:
    return [each for each in _set(task.corpus).texts if each.split == TEST]
