"""What a trained head is worth: its answers to test, its attention beside what people marked, and its answers when the
marked parts, or the words that it attends to most, are missing.

Every figure is a mean of columns of one table, a row a test text, kept for the comparisons.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.evaluation.resample import Totals, ratio
from engine.experiments.compare import flags_of, mean_f1
from engine.experiments.rationale_sets import Marked
from engine.experiments.rationales import drawn, flags, quality
from engine.experiments.regimes import REST, retold
from engine.experiments.run import Result
from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import from_tokens
from engine.explain.faithfulness import top_counts
from engine.records import seed_of

if TYPE_CHECKING:
    from engine.experiments.frozen import Answers, Frozen
    from engine.models.site_classifier.learner import SiteLearner

COVERAGE = ("cov_topk", "cov_mass", "cov_lift")
# Of texts with something marked: the mean probability of the labels people gave, to the whole text and to the rest without marks.
REMOVED = ("prob", "rest_prob", "rest_right")
ERASED = ("comp", "comp_random")
_DRAWS = 5
FIGURES = ("accuracy", "macro_f1", *COVERAGE, *REMOVED, *ERASED, "comp_gain")


def test_rows(frozen: "Frozen", learner: "SiteLearner", erased: int, share: float) -> pa.Table:
    """A row for each text of test.

    Args:
        erased: of how many texts, chosen by id, the `share` of words with the largest weights is deleted and the text encoded
            anew, beside as many words drawn at random, the same for every head, the mean of five draws; 0: of none.
    """
    texts, held = frozen.texts, frozen.texts.held
    test = texts.test
    whole = held.filter(pc.equal(held["split"], "test"))
    found, rest = frozen.answered(learner, whole), frozen.answered(learner, held.filter(pc.equal(held["split"], REST)))
    gold = flags([each.labels for each in test], texts.labels)
    tokens = frozen.tokens([each.text for each in test])
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(test):
        row: dict[str, Any] = dict.fromkeys((*COVERAGE, *REMOVED, *ERASED))
        row |= {"record_id": each.record_id, "group": each.group}
        row |= {"gold": gold[number].tolist(), "given": found.given[number].tolist()}
        spans = [span for some in each.spans.values() for span in some]
        if spans:
            right = gold[number]
            row |= {"prob": float(found.probs[number, right].mean()), "rest_prob": float(rest.probs[number, right].mean())}
            row["rest_right"] = float((rest.given[number] == right).all())
            of = tokens[number]
            explained = from_tokens(found.weights[number], of.word_of_token, of.word_start, of.word_end)
            agreed = agreement(explained, gold_units(of.word_start, of.word_end, spans, len(each.text)))
            row |= {name: agreed[name] for name in COVERAGE}
        rows.append(row)
    if erased:
        _erase(frozen, learner, test, whole, found, rows, erased, share)
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string()),
        pa.field("group", pa.string()),
        pa.field("gold", pa.list_(pa.bool_())),
        pa.field("given", pa.list_(pa.bool_())),
        *(pa.field(name, pa.float64()) for name in (*COVERAGE, *REMOVED, *ERASED)),
    ]
)


def _erase(
    frozen: "Frozen",
    learner: "SiteLearner",
    test: Sequence[Marked],
    whole: pa.Table,
    found: "Answers",
    rows: list[dict[str, Any]],
    erased: int,
    share: float,
) -> None:
    """Comprehensiveness (ERASER, section 4) of the strongest label: its fall when the words are deleted from the text."""
    chosen = drawn([each.record_id for each in test], erased, 0)
    tops: list[str] = []
    randoms: list[list[str]] = [[] for _ in range(_DRAWS)]
    for number in chosen:
        (of,) = frozen.tokens([test[number].text])
        weight = from_tokens(found.weights[number], of.word_of_token, of.word_start, of.word_end).weight
        (count,) = top_counts(len(weight), (share,))
        tops.append(_without(test[number].text, of.word_start, of.word_end, np.argsort(-weight, kind="stable")[:count]))
        for draw in range(_DRAWS):
            generator = np.random.default_rng(seed_of(test[number].record_id, "erased at random", draw))
            words = generator.permutation(len(weight))[:count]
            randoms[draw].append(_without(test[number].text, of.word_start, of.word_end, words))
    some = whole.take(pa.array(chosen))
    without = frozen.answered(learner, retold(some, text=tops), keep=False).probs
    # These texts are the same for every head, so their states are worth keeping.
    controls = [frozen.answered(learner, retold(some, text=texts), attended=False).probs for texts in randoms]
    control = np.mean(controls, axis=0)
    for place, number in enumerate(chosen):
        label = int(found.probs[number].argmax())
        before = found.probs[number, label]
        rows[number] |= {
            "comp": float(before - without[place, label]),
            "comp_random": float(before - control[place, label]),
        }


def _without(text: str, start: NDArray, end: NDArray, words: NDArray) -> str:
    gone = np.zeros(len(text), dtype=bool)
    for word in words:
        gone[start[word] : end[word]] = True
    left = "".join(letter for letter, out in zip(text, gone, strict=True) if not out)
    return left if left.strip() else "."


def results(rows: pa.Table, rounds: int) -> list[Result]:
    """The figures of one training on test, with intervals over groups of texts."""
    groups = rows["group"].to_pylist()
    found = quality(flags_of(rows, "gold"), flags_of(rows, "given"), groups, rounds)
    rows = rows.append_column("comp_gain", pc.subtract(rows["comp"], rows["comp_random"]))
    for name in (*COVERAGE, *REMOVED, *ERASED, "comp_gain"):
        there = rows.filter(pc.is_valid(rows[name]))
        if len(there):
            totals = Totals(there["group"].to_pylist(), {name: there[name].to_numpy(), "n": np.ones(len(there))})
            each = totals.estimates({name: ratio(name, "n")}, rounds)[name]
            found.append(Result(name, each.value, each.low, each.high, len(there)))
    return found


def figure(rows: pa.Table, name: str) -> float | None:
    """One of `FIGURES`; None where no text has it."""
    if name in ("accuracy", "macro_f1"):
        gold, given = flags_of(rows, "gold"), flags_of(rows, "given")
        if name == "accuracy":
            return float((gold == given).all(1).mean())
        mean = float(mean_f1((gold & given).sum(0), given.sum(0), gold.sum(0)))
        return None if np.isnan(mean) else mean
    if name == "comp_gain":
        comp, random = figure(rows, "comp"), figure(rows, "comp_random")
        return None if comp is None or random is None else comp - random
    mean = pc.mean(rows[name]).as_py()
    return None if mean is None else float(mean)


def label_f1(gold: NDArray, given: NDArray) -> list[float | None]:
    """F1 of each label from flags [texts, labels]; None where no text has the label."""
    hits, said, there = (gold & given).sum(0), given.sum(0), gold.sum(0)
    return [2 * float(hit) / float(a + b) if b else None for hit, a, b in zip(hits, said, there, strict=True)]
