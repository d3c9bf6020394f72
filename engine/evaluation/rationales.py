"""Agreement of the evidence in a table with marked spans, compared with the same weights on random words.

A table of codes holds the strongest spans of a report, not the weight of every word. So each span's weight is divided among the
words under it, all weights are made to sum to 1, and every other word has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.explain.agreement import agreement, gold_units
from engine.explain.explanation import Explanation
from engine.records import seed_of
from engine.text.units import words

MEASURES = ("cov_topk", "cov_mass", "cov_lift", "auprc")
RANDOM = "random_"


def evidence_agreement(
    text: str, evidence: Sequence[Mapping[str, Any]], marked: Sequence[Mapping[str, Any]], record_id: str, draws: int = 5
) -> dict[str, float] | None:
    """The measures of `engine.explain.agreement` over the words of a text, and with the prefix `random_` their control.

    Args:
        evidence: `start`, `end` and `weight`, as in the table. marked: `start` and `end` of gold spans.
        record_id: seeds the `draws` shuffles of the control, which is their mean.
    Returns:
        None if there is no evidence, or no word is marked.
    Raises:
        RowError: a gold span is not within the text.
    """
    starts, ends = words(text)
    gold = gold_units(starts, ends, [(span["start"], span["end"]) for span in marked], len(text))
    weights = unit_weights(starts, ends, [(span["start"], span["end"], span["weight"]) for span in evidence])
    if not gold.any() or not weights.any():
        return None
    generator = np.random.default_rng(seed_of(record_id, "rationale control"))

    def measured(weights: NDArray) -> dict[str, float]:
        values = agreement(Explanation(starts, ends, weights, weights), gold)
        return {name: float(values[name]) for name in MEASURES}

    control = [measured(generator.permutation(weights)) for _ in range(draws)]
    return measured(weights) | {f"{RANDOM}{name}": float(np.mean([values[name] for values in control])) for name in MEASURES}


def unit_weights(starts: ArrayLike, ends: ArrayLike, spans: Sequence[tuple[int, int, float]]) -> NDArray:
    """Weights [n] of units, with sum 1, from weighted spans; all 0 if no span touches a unit.

    Args:
        starts, ends: [n] half-open offsets of the units, which do not overlap.
        spans: start, end, weight; the absolute weight is divided among the units by the number of shared characters.
    """
    starts, ends = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    weights = np.zeros(starts.size)
    for start, end, weight in spans:
        common = np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0, None)
        if common.sum():
            weights += abs(weight) * common / common.sum()
    return weights / weights.sum() if weights.any() else weights
