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
from engine.studies.explaining import SENTENCE, WORD, Span, explaining, parts
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
    draws, scores = options(_Options, task, "agreement").draws, dict[str, list[Mapping[str, float] | None]]()
    words = [units for members in parts(arm.members) for units in arm.words(members)]
    for at, target, text, units in zip(arm.members, arm.targets, arm.texts, words, strict=True):
        of_units = {arm.settings.unit: arm.explanations[at]}
        if arm.settings.unit == WORD:
            of_units[SENTENCE] = by_sentence(arm.explanations[at], *text.bounds)
        for unit, each in of_units.items():
            sizes = words_in(each, units) if unit == SENTENCE else None
            label = str(target.label)
            figures = scored(each, text.marks[label], len(text.text), (text.record_id, label), draws, sizes)
            scores.setdefault(unit, []).append(figures)
    names, columns, rows = arm.columns(), dict[str, pa.Array](), list[Row]()
    for unit, each in scores.items():
        without = sum(figures is None for figures in each)
        note = f"{without} without a weight or a marked unit left out" if without else ""
        for name in next((figures for figures in each if figures is not None), MEASURES):
            column = columns[f"{unit}_{name}"] = pa.array([figures and figures[name] for figures in each], pa.float64())
            rows.append(mean(f"{unit}_{name}", column, names["group"], task.study.rounds, note=note))
    return Measured(rows, pa.table({**names, **columns}))


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

    def measures(weight: NDArray) -> dict[str, float]:
        figures = agreement(replace(explanation, weight=weight), gold)
        return {name: float(figures[figure]) for name, figure in MEASURES.items()}  # type: ignore[arg-type]

    generator = np.random.default_rng(seed_of(*seeds, "rationale control"))
    figures = values = measures(explanation.weight)
    shuffled = [measures(generator.permutation(explanation.weight)) for _ in range(draws)]
    controls = {RANDOM: {name: float(np.mean([each[name] for each in shuffled])) for name in MEASURES}}
    if sizes is not None:
        controls[LENGTH] = measures(sizes / sizes.sum())
    for control, others in controls.items():
        figures = figures | {f"{name}_{control}": other for name, other in others.items()}
        figures |= {f"{name}_{GAINS[control]}": values[name] - other for name, other in others.items()}
    return figures


def by_sentence(explanation: Explanation, start: NDArray, end: NDArray) -> Explanation:
    """An explanation over words summed to sentences [n]; a word belongs to the sentence that it begins in."""
    count = len(explanation.start)
    large = Units(WORD, explanation.start, explanation.end, np.arange(count)).merged(SENTENCE, start, end)
    inside = large.of_position >= 0
    return from_units(large, np.bincount(large.of_position[inside], weights=explanation.score[inside], minlength=len(large)))


def words_in(explanation: Explanation, words: Units) -> NDArray:
    """How many words begin in each unit [n]."""
    return np.searchsorted(words.start, explanation.end) - np.searchsorted(words.start, explanation.start)
