"""The rationales of the reports, scored out of fold by heads trained on the reports alone, and further properties of each.

`perplexity` is that of a bigram model of the training reports' words, with add-one smoothing: no language model comes along.
`centroid` is the cosine between a rationale's mean token state and the mean of those of its label. `coverage` is the lift of the
out-of-fold head's attention on the rationale in its own report.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.experiments.rationale_sets import TASK
from engine.experiments.regimes import listed, origin, retold
from engine.experiments.sufficiency import FoldProbs, folds, score
from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import from_tokens
from engine.models.site_classifier.rationales import rationales
from engine.storage import whole_file
from engine.text.units import words

if TYPE_CHECKING:
    from engine.experiments.frozen import Frozen
    from engine.models.site_classifier.learner import SiteLearner

FURTHER = ("length", "perplexity", "centroid", "coverage")
_SEED = 1


def scored_rationales(frozen: "Frozen", head: str, count: int, work: Path) -> pa.Table:
    """The bank of a head: `SCORES` and the columns of `FURTHER`, made once and kept in `work`.

    A rationale of several labels is scored for the first of them.
    """
    file = work / f"rationale_bank-{head}.parquet"
    if not file.is_file():
        table = _scored(frozen, head, count)
        with whole_file(file) as part:
            pq.write_table(table, part)
    return pq.read_table(file)


def _scored(frozen: "Frozen", head: str, count: int) -> pa.Table:
    texts = frozen.texts
    base, found = texts.base, texts.rationales
    names = found["record_id"].to_pylist()
    reports = {name: row for row, name in enumerate(base["record_id"].to_pylist())}
    place = np.array([reports[origin(name)[0]] for name in names])
    lift = np.zeros(len(names))
    blank = retold(base.slice(0, 1), text=["."])

    def probs() -> Iterator[FoldProbs]:
        for number, learner, here in out_of_fold(frozen, head, count, names):
            answers = frozen.answered(learner, base.take(pa.array(place[here])))
            alone = frozen.answered(learner, found.take(pa.array(here))).probs
            yield number, here, answers.probs, alone, frozen.answered(learner, blank).probs
            for row, weights in zip(here, answers.weights, strict=True):
                lift[row] = _lift(frozen, names[row], weights)

    told = [
        {"record_id": name, "origin": origin(name)[0], "label": _first(label)}
        for name, label in zip(names, found[TASK].to_pylist(), strict=True)
    ]
    table = score(told, list(texts.labels), probs())
    kinds = [_first(label) for label in found[TASK].to_pylist()]
    sizes = [len(each.ids) for each in frozen.tokens(found["text"].to_pylist())]
    further = (sizes, perplexities(base["text"].to_pylist(), found["text"].to_pylist()), _central(frozen, found, kinds), lift)
    for name, values in zip(FURTHER, further, strict=True):
        table = table.append_column(name, pa.array(np.asarray(values, dtype=float)))
    return table


def out_of_fold(frozen: "Frozen", head: str, count: int, names: Sequence[str]) -> Iterator[tuple[int, "SiteLearner", np.ndarray]]:
    """For each fold of the reports its number, a head trained on the reports of the others, and which of the samples `names` come
    from its own."""
    base = frozen.texts.base
    first = [_first(told) for told in base[TASK].to_pylist()]
    fold = folds(first, base["group"].to_pylist(), count, _SEED)
    of = dict(zip(base["record_id"].to_pylist(), fold.tolist(), strict=True))
    mine = np.array([of[origin(name)[0]] for name in names], dtype=int)
    for number in range(count):
        here = np.flatnonzero(mine == number)
        if here.size:
            frozen.say(f"{head}: samples scored out of fold, {number + 1} of {count}")
            learner = frozen.learned(head, pa.concat_tables([base.filter(pa.array(fold != number)), frozen.texts.held]), _SEED)
            yield number, learner, here


def _lift(frozen: "Frozen", name: str, weights: np.ndarray) -> float:
    report, number = origin(name)
    row = pc.index(frozen.texts.base["record_id"], report).as_py()
    text = frozen.texts.base["text"][row].as_py()
    spans = rationales(frozen.texts.base["marks"][row].as_py(), len(text))[number].spans
    (of,) = frozen.tokens([text])
    explained = from_tokens(weights, of.word_of_token, of.word_start, of.word_end)
    return agreement(explained, gold_units(of.word_start, of.word_end, spans, len(text)))["cov_lift"] or 0.0


def perplexities(corpus: Sequence[str], texts: Sequence[str]) -> list[float]:
    """exp of the mean negative log-probability of each text's words under a bigram model of the corpus, add-one smoothed.

    Words are compared without case; a text's first word follows a start sign.
    """
    singles, pairs = Counter[str](), Counter[tuple[str, str]]()
    for text in corpus:
        said = ["", *_said(text)]
        singles.update(said[:-1])
        pairs.update(pairwise(said))
    kinds = len({after for _, after in pairs}) + 1
    found = []
    for text in texts:
        said = ["", *_said(text)]
        logs = [math.log((pairs[a, b] + 1) / (singles[a] + kinds)) for a, b in pairwise(said)]
        found.append(math.exp(-sum(logs) / max(1, len(logs))))
    return found


def _said(text: str) -> list[str]:
    return [text[a:b].casefold() for a, b in zip(*words(text), strict=True)]


def _central(frozen: "Frozen", found: pa.Table, kinds: Sequence[str]) -> np.ndarray:
    """Cosine of each text's mean state with the mean of its kind, [texts]."""
    examples = frozen.examples(found)
    states = frozen.states(examples)
    mean = np.stack([states.of(row, [(0, len(ids))])[1:].mean(0) for row, ids in enumerate(examples.ids)])
    named = np.array(kinds, dtype=object)
    centre = {kind: mean[named == kind].mean(0) for kind in set(kinds)}
    middle = np.stack([centre[kind] for kind in kinds])
    size = np.linalg.norm(mean, axis=1) * np.linalg.norm(middle, axis=1)
    return (mean * middle).sum(1) / np.maximum(size, 1e-12)


def _first(told: object) -> str:
    return next(iter(listed(told)), "")
