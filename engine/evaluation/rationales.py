"""Agreement of the evidence in a table with what people marked, beside the same weights laid on words at random.

A table of codes holds the strongest spans of a report and not the weight of every word. So the weights of the spans are shared
among the words under them and made to sum to 1, and every other word has none.
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
    """The measures of `engine.explain.agreement` over the words of a text, and under `random_` their control.

    Args:
        evidence: `start`, `end` and `weight`, as the table has them. marked: `start` and `end` of gold spans.
        record_id: seeds the shuffles of the control, over which the mean is taken.
    Returns:
        None where there is no evidence, or no word is marked.
    Raises:
        RowError: a gold span does not lie in the text.
    """
    starts, ends = words(text)
    gold = gold_units(starts, ends, [(span["start"], span["end"]) for span in marked], len(text))
    weights = unit_weights(starts, ends, [(span["start"], span["end"], span["weight"]) for span in evidence])
    if not gold.any() or not weights.any():
        return None
    generator = np.random.default_rng(seed_of(record_id, "rationale control"))
    found = _measured(starts, ends, weights, gold)
    control = [_measured(starts, ends, generator.permutation(weights), gold) for _ in range(draws)]
    return found | {f"{RANDOM}{name}": float(np.mean([each[name] for each in control])) for name in MEASURES}


def unit_weights(starts: ArrayLike, ends: ArrayLike, spans: Sequence[tuple[int, int, float]]) -> NDArray:
    """Weights [n] of units, with sum 1, from weighted spans; all 0 where no span touches a unit.

    Args:
        starts, ends: [n] half-open offsets of the units, without overlap.
        spans: start, end, weight; a weight is shared among the units by characters in common, and its size counts.
    """
    starts, ends = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    weights = np.zeros(starts.size)
    for start, end, weight in spans:
        common = np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0, None)
        if common.sum():
            weights += abs(weight) * common / common.sum()
    return weights / weights.sum() if weights.any() else weights


def _measured(starts: NDArray, ends: NDArray, weights: NDArray, gold: NDArray) -> dict[str, float]:
    found = agreement(Explanation(starts, ends, weights, weights), gold)
    return {name: float(found[name]) for name in MEASURES}
