"""A classifier's answers to texts that lack something.

`comprehensiveness` (DeYoung et al. 2020, ERASER, section 4) is the fall of the strongest label's probability when the share
`erase.share` of words with the largest weights is deleted and the text encoded anew; `comprehensiveness_random` the same for as
many words drawn at random, the same ones for every head, the mean of five draws; `comprehensiveness_gain` the difference.
`complement_probability` is the mean probability of the people's labels when everything that they marked is deleted,
`complement_right` the share of texts of which every label is right then.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from engine.explain.faithfulness import top_counts
from engine.records import seed_of
from engine.studies.marked_sets import draw
from engine.studies.regimes import with_columns
from engine.studies.results import Measured
from engine.studies.run import Task
from engine.studies.site_classifier.codes import estimates, explanation, gold_of, schema
from engine.studies.site_classifier.trained import Classifier
from engine.text.tokens import TokenizedText

_DRAWS = 5
COMPLEMENT = ("complement_probability", "complement_right")
ERASED = ("comprehensiveness", "comprehensiveness_random", "comprehensiveness_gain")


def measure(model: Classifier, task: Task) -> Measured:
    test, gold = model.texts.test, gold_of(model)
    rest = model.answers(model.texts.complements)
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(test):
        row = {"record_id": each.record_id, "group": each.group}
        if each.marks:
            right = bool((rest.given[number] == gold[number]).all())
            row |= {"complement_probability": float(rest.probs[number, gold[number]].mean()), "complement_right": float(right)}
        rows.append(row)
    for number, falls in _falls(model).items():
        rows[number] |= dict(zip(ERASED, falls, strict=True))
    table = pa.Table.from_pylist(rows, schema=schema((), (*COMPLEMENT, *ERASED)))
    return Measured(estimates(table, (*COMPLEMENT, *ERASED), task.study.rounds), table)


def _falls(model: Classifier) -> dict[int, tuple[float, float, float]]:
    """The figures of `ERASED` for some texts of test, by number."""
    test, whole = model.texts.test, model.texts.examples(model.texts.test)
    chosen = draw(test, model.settings["erase.texts"]) if model.settings["erase.texts"] else []
    if not chosen:
        return {}
    answers = model.answers(whole)
    strongest, random = [], [list[str]() for _ in range(_DRAWS)]
    for number in chosen:
        each = test[number]
        (tokens,) = model.corpus.tokens([each.text])
        weight = explanation(answers.weights[number], tokens).weight
        (count,) = top_counts(len(weight), (model.settings["erase.share"],))
        strongest.append(_without(each.text, tokens, np.argsort(-weight, kind="stable")[:count]))
        for at in range(_DRAWS):
            generator = np.random.default_rng(seed_of(each.record_id, "erased at random", at))
            random[at].append(_without(each.text, tokens, generator.permutation(len(weight))[:count]))
    texts = whole.take(pa.array(chosen))
    top = model.answers(with_columns(texts, text=strongest), keep=False).probs
    # The texts without random words are the same for every head, so their states are worth keeping.
    control = np.mean([model.answers(with_columns(texts, text=erased), attention=False).probs for erased in random], axis=0)
    falls = {}
    for place, number in enumerate(chosen):
        label = int(answers.probs[number].argmax())
        fall, by_chance = (float(answers.probs[number, label] - probs[place, label]) for probs in (top, control))
        falls[number] = (fall, by_chance, fall - by_chance)
    return falls


def _without(text: str, tokens: TokenizedText, words: np.ndarray) -> str:
    gone = np.zeros(len(text), dtype=bool)
    for word in words:
        gone[tokens.word_start[word] : tokens.word_end[word]] = True
    left = "".join(letter for letter, out in zip(text, gone, strict=True) if not out)
    return left if left.strip() else "."
