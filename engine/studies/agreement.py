"""How much of an explanation lies in what people marked.

Measured are `topk`, the share of marked units among as many strongest ones, `mass`, the weight on marked units, `lift`, that over
the marked share of all units (1 is chance), and `auprc`, the average precision of the weights; over sentences, and over words
where the explanation is by word. Beside each stands `<measure>_random`, the same of these weights shuffled among the units, and
over sentences `<measure>_length`, the same of weights that are the number of a sentence's words: a sum over words is larger in a
longer sentence whatever the words say. `_gain` and `_over_length` are what the explanation has more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import Explanation, from_units
from engine.records import seed_of
from engine.studies.explaining import SENTENCE, WORD, Span, explaining, parts, sentence_bounds
from engine.studies.means import mean
from engine.studies.results import Measured, Row
from engine.studies.run import Model, Task
from engine.studies.settings import options
from engine.text.units import Units

MEASURES = {"topk": "cov_topk", "mass": "cov_mass", "lift": "cov_lift", "auprc": "auprc"}
RANDOM, LENGTH = "random", "length"
GAINS = {RANDOM: "gain", LENGTH: "over_length"}


@dataclass(frozen=True)
class _Options:
    """Settings `agreement.<name>`: draws of the shuffled weights."""

    draws: int = 5


def measure(model: Model, task: Task) -> Measured:
    arm = explaining(model, task)
    if arm is None:
        return Measured([])
    if not arm.members:
        return Measured([Row(f"{SENTENCE}_auprc", None, n=0, note="the model gives no label that people gave")])
    draws, by_unit = options(_Options, task, "agreement").draws, dict[str, list[Mapping[str, float] | None]]()
    names, labels, texts = arm.columns(), arm.labels, arm.texts
    words = [units for members in parts(arm.members) for units in arm.words(members)]
    for label, text, units, explanation in zip(labels, texts, words, (arm.explanations[at] for at in arm.members), strict=True):
        of_units = {explanation.unit_kind: explanation}
        if explanation.unit_kind == WORD:
            of_units[SENTENCE] = by_sentence(explanation, *sentence_bounds(text))
        for unit, each in of_units.items():
            sizes = words_in(each, units) if unit == SENTENCE else None
            figures = scored(each, text.marks[label], len(text.text), (text.record_id, label), draws, sizes)
            by_unit.setdefault(unit, []).append(figures)
    rows, columns = [], dict[str, list[float | None]]()
    for unit, scores in by_unit.items():
        rows += means(unit, scores, names["group"], task.study.rounds)
        known = next((each for each in scores if each is not None), {})
        columns |= {f"{unit}_{name}": [each and each[name] for each in scores] for name in known}
    return Measured(rows, pa.table({**names, **{name: pa.array(values, pa.float64()) for name, values in columns.items()}}))


def scored(
    explanation: Explanation,
    spans: Sequence[Span],
    length: int,
    seeds: tuple[str, str],
    draws: int,
    sizes: NDArray | None = None,
) -> dict[str, float] | None:
    """The measures of one explanation, those of its controls and what it has more.

    Args:
        length: characters of the text. seeds: record id and label; they seed the shuffles of the weights among the units, of
            whose `draws` the mean is taken. sizes: [n] words of each unit, a control of its own.
    Returns:
        None where no unit is marked, or none has a weight.
    """
    gold = gold_units(explanation.start, explanation.end, spans, length)
    if not gold.any() or explanation.degenerate:
        return None
    generator = np.random.default_rng(seed_of(*seeds, "rationale control"))
    values, controls = _measures(explanation, explanation.weight, gold), dict[str, Mapping[str, float]]()
    shuffled = [_measures(explanation, generator.permutation(explanation.weight), gold) for _ in range(draws)]
    controls[RANDOM] = {name: float(np.mean([each[name] for each in shuffled])) for name in MEASURES}
    if sizes is not None:
        controls[LENGTH] = _measures(explanation, sizes / sizes.sum(), gold)
    figures = dict(values)
    for control, others in controls.items():
        for name, other in others.items():
            figures |= {f"{name}_{control}": other, f"{name}_{GAINS[control]}": values[name] - other}
    return figures


def means(unit: str, scores: Sequence[Mapping[str, float] | None], groups: Sequence[str], rounds: int) -> list[Row]:
    """The mean of each figure, with intervals over groups drawn whole."""
    known = next((each for each in scores if each is not None), None)
    without = sum(each is None for each in scores)
    note = f"{without} without a weight or a marked unit left out" if without else ""
    rows = []
    for name in known if known is not None else MEASURES:
        values = [float("nan") if each is None else each[name] for each in scores]
        rows.append(mean(f"{unit}_{name}", values, groups, rounds, note=note))
    return rows


def by_sentence(explanation: Explanation, start: NDArray, end: NDArray) -> Explanation:
    """An explanation over words summed to sentences [n]; a word belongs to the sentence that it begins in."""
    count = len(explanation.start)
    large = Units(WORD, explanation.start, explanation.end, np.arange(count)).merged(SENTENCE, start, end)
    inside = large.of_position >= 0
    return from_units(large, np.bincount(large.of_position[inside], weights=explanation.score[inside], minlength=len(large)))


def words_in(explanation: Explanation, words: Units) -> NDArray:
    """How many words begin in each unit [n]."""
    return np.searchsorted(words.start, explanation.end) - np.searchsorted(words.start, explanation.start)


def _measures(explanation: Explanation, weight: NDArray, gold: NDArray) -> dict[str, float]:
    figures = agreement(replace(explanation, weight=weight), gold)
    return {name: float(figures[measure]) for name, measure in MEASURES.items()}  # type: ignore[arg-type]
