"""Agreement of an explanation with spans that people marked.

`gold` [n] flags the units that a gold span touches. A record without any has no values.
"""

from collections.abc import Iterable

import numpy as np

from engine.errors import RowError
from engine.explain.explanation import Explanation
from engine.explain.rows import AGREEMENT


def gold_units(start: np.ndarray, end: np.ndarray, spans: Iterable[tuple[int, int]], length: int) -> np.ndarray:
    """Which units [n] share a character with one of the spans.

    Args:
        start, end: offsets of the units. length: characters of the text.
    Raises:
        RowError: a span is empty or not within the text, so it must belong to another text.
    """
    touched = np.zeros(len(start), dtype=bool)
    for first, last in spans:
        if not 0 <= first < last <= length:
            raise RowError("parse_error", f"gold span {first}-{last} does not lie in a text of {length} characters")
        touched |= (start < last) & (end > first)
    return touched


def agreement(explanation: Explanation, gold: np.ndarray) -> dict[str, float | None]:
    """Coverage, lift, AUPRC and span overlap of an explanation's weights a against gold units R of n; None without either.

    `cov_topk` = share of R among the |R| strongest units, `cov_mass` = sum of a over R, `cov_lift` = cov_mass / (|R| / n),
    `auprc` = average precision of a for R, `iou_f1` = F1 of runs among the |R| strongest units and runs of R that overlap by at
    least half of their union (ERASER, section 4.1).
    """
    count = int(gold.sum())
    if not count or explanation.degenerate:
        return dict.fromkeys(AGREEMENT)
    from sklearn.metrics import average_precision_score

    weight = explanation.weight
    top = np.zeros(len(weight), dtype=bool)
    top[np.argsort(-weight, kind="stable")[:count]] = True
    mass = float(weight[gold].sum())
    return {
        "cov_topk": float((top & gold).sum() / count),
        "cov_mass": mass,
        "cov_lift": mass / (count / len(weight)),
        "auprc": float(average_precision_score(gold, weight)),
        "iou_f1": _iou_f1(runs(top), runs(gold)),
    }


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring true units."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _iou_f1(top: list[tuple[int, int]], gold: list[tuple[int, int]]) -> float:
    def match(a: tuple[int, int], b: tuple[int, int]) -> bool:
        shared = min(a[1], b[1]) - max(a[0], b[0])
        return shared > 0 and shared / (a[1] - a[0] + b[1] - b[0] - shared) >= 0.5

    precision = np.mean([any(match(a, b) for b in gold) for a in top])
    recall = np.mean([any(match(a, b) for a in top) for b in gold])
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
