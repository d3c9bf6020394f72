"""A classifier's answers to the texts of test, and how much of its attention lies on what people marked.

Figures are accuracy (every label of a text right) and macro-F1; of the texts with marks the mean probability of their labels, and
of the attention on words `topk`, the marked share of as many strongest words, `mass`, the share on marked words, and `lift`, that
over the share of words that are marked (1: as if at random). `texts` is the number of samples that the model learned from beside
the reports; `f1_<label>` is the F1 of each label in `data.classes`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluation.resample import Totals
from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import Explanation, from_tokens
from engine.studies.compare import GIVEN, LABELS, figure, truth
from engine.studies.marked_sets import MarkedText
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.site_classifier.trained import Classifier
from engine.text.tokens import TokenizedText

ATTENTION = {"topk": "cov_topk", "mass": "cov_mass", "lift": "cov_lift"}
SYNTHETIC, SILVER = "the reports added are synthetic", "silver marks"


def measure(model: Classifier, task: Task) -> Measured:
    texts, test = model.texts, model.texts.test
    answers, gold = model.answers(texts.examples(test)), gold_of(model)
    rows = []
    for number, (each, tokens) in enumerate(zip(test, model.corpus.tokens([each.text for each in test]), strict=True)):
        row = {"record_id": each.record_id, "group": each.group, LABELS: gold[number].tolist()}
        row |= {GIVEN: answers.given[number].tolist(), "probability": None, **dict.fromkeys(ATTENTION)}
        if each.marks:
            agreed = agreement(explanation(answers.weights[number], tokens), marked_words(each, tokens))
            row |= {name: agreed[measure] for name, measure in ATTENTION.items()}
            row["probability"] = float(answers.probs[number, gold[number]].mean())
        rows.append(row)
    numbers = ("probability", *ATTENTION)
    table = pa.Table.from_pylist(rows, schema=schema((LABELS, GIVEN), numbers))
    note = SILVER if model.corpus.set.form.silver else ""
    figures = estimates(table, ("accuracy", "macro_f1", "probability"), task.study.rounds)
    figures += [
        *estimates(table, tuple(ATTENTION), task.study.rounds, note),
        Row("texts", model.added),
        *_of_classes(model, table),
    ]
    return Measured(figures, table)


def gold_of(model: Classifier) -> np.ndarray:
    """Which labels each text of test has, [texts, labels]."""
    return np.array([[label in each.labels for label in model.texts.labels] for each in model.texts.test], dtype=bool)


def explanation(weights: np.ndarray, tokens: TokenizedText) -> Explanation:
    """The weights of tokens as those of words."""
    return from_tokens(weights, tokens.word_of_token, tokens.word_start, tokens.word_end)


def marked_words(text: MarkedText, tokens: TokenizedText) -> np.ndarray:
    return gold_units(tokens.word_start, tokens.word_end, text.marks, len(text.text))


def schema(flags: Sequence[str], numbers: Sequence[str]) -> pa.Schema:
    names = [pa.field(name, pa.string()) for name in ("record_id", "group")]
    lists = [pa.field(name, pa.list_(pa.bool_())) for name in flags]
    return pa.schema([*names, *lists, *(pa.field(name, pa.float64()) for name in numbers)])


def estimates(answers: pa.Table, metrics: Sequence[str], rounds: int, note: str = "") -> list[Row]:
    """Figures of per-text answers with intervals over groups of texts; a figure that no text has is left out."""
    rows = []
    for metric in metrics:
        measured = answers.filter(pc.is_valid(answers[metric])) if metric in answers.column_names else answers
        if len(measured):
            sums, value = figure(metric, measured)
            totals = Totals(measured["group"].to_pylist(), sums)
            estimate = totals.estimates({metric: lambda drawn, value=value: value(lambda name: drawn[name])}, rounds)[metric]
            rows.append(Row(metric, estimate.value, estimate.low, estimate.high, len(measured), note=note))
    return rows


def _of_classes(model: Classifier, answers: pa.Table) -> list[Row]:
    labels, given = truth(answers, LABELS), truth(answers, GIVEN)
    get, rows = model.settings.__getitem__, []
    for label in get("data.classes"):
        gold, predicted = (values[:, model.texts.labels.index(label)] for values in (labels, given))
        value = 2 * float((gold & predicted).sum()) / float(gold.sum() + predicted.sum()) if gold.any() else None
        note = SYNTHETIC if get("data.added") == "reports" and label in get("data.synthetic") else ""
        rows.append(Row(f"f1_{label}", value, n=len(gold), note=note))
    return rows
