"""An explanation: how much each unit of a text speaks for an answer, and the spans worth showing.

`score` is signed and in units of what is explained (here log-odds). `weight` is |score| / sum |score| over all units, so weights
sum to 1, or are all 0 if every score is 0 (`degenerate`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine.text.units import Beside, Units

OK, DEGENERATE, NO_UNITS, NOT_FINITE = "ok", "degenerate", "no_units", "not_finite"
# The explanation is sound, but the model gave another answer when it was explained.
OTHER_ANSWER = "other_answer"
STATUSES = (OK, DEGENERATE, NO_UNITS, NOT_FINITE, OTHER_ANSWER)


@dataclass(frozen=True)
class Target:
    """What is explained: a class, a label, a span of the text (`start` and `end` are characters) or a concept.

    `source` is predicted, gold or counterfactual.
    """

    name: str
    kind: str = "class"
    start: int | None = None
    end: int | None = None
    source: str = "predicted"


@dataclass(frozen=True)
class Explanation:
    """Units of one record for one target: half-open character offsets [n] of the text's units; scores and weights of all units,
    those of the text first, then those `beside` it.

    `target_score` is F of the record, `blank_score` F with everything erased, `residual` the sum of the scores less their
    difference; None if the method does not distribute that difference, or was not asked to. `settings` and `seed` suffice to
    repeat the explanation. `checks` are its measures by name. `stability` (of each unit) and `fusion` belong to `fused`. `boxes`
    are those of `Units`.
    """

    start: np.ndarray
    end: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    method: str = ""
    unit_kind: str = "word"
    target: Target | None = None
    score_kind: str = "log_odds"
    status: str = OK
    target_score: float | None = None
    blank_score: float | None = None
    residual: float | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, float | None] = field(default_factory=dict)
    stability: np.ndarray | None = None
    fusion: tuple[Mapping[str, Any], ...] = ()
    beside: tuple[Beside, ...] = ()
    boxes: np.ndarray | None = None

    @property
    def degenerate(self) -> bool:
        return not np.any(self.weight)

    def checked(self, checks: Mapping[str, float | None]) -> "Explanation":
        """The explanation with further checks."""
        return replace(self, checks={**self.checks, **checks})

    @property
    def of_text(self) -> "Explanation":
        """The explanation reduced to the units of the text; their weights sum to 1 again."""
        if not self.beside:
            return self
        count, stability = len(self.start), self.stability
        stability = None if stability is None else stability[:count]
        score = self.score[:count]
        return replace(self, score=score, weight=weights(score), stability=stability, beside=())

    @property
    def shares(self) -> dict[str, float]:
        """Kind of unit -> its share of the sum of absolute scores."""
        kinds = np.array([*[self.unit_kind] * len(self.start), *(unit.kind for unit in self.beside)])
        sums = {kind: np.abs(self.score[kinds == kind]).sum() for kind in dict.fromkeys(kinds.tolist())}
        total = float(sum(sums.values()))
        return {kind: float(value) / total if total > 0 else 0.0 for kind, value in sums.items()}


def inside_units(target: Target | None, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The numbers of the units, from `start` to `end` [n], that share a character with a target; none if it is no span."""
    if target is None or target.start is None or target.end is None:
        return np.arange(0)
    return np.flatnonzero((start < target.end) & (end > target.start))


def edge_units(target: Target | None, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The edge W of a target as numbers of units, from `start` to `end` [n]: the unit before it, its first, its last and the unit
    after it, as far as they exist; none if the target is no span, or no unit lies in it."""
    inside = inside_units(target, start, end)
    if not len(inside):
        return inside
    first, last = int(inside[0]), int(inside[-1])
    edge = np.unique([first - 1, first, last, last + 1])
    return edge[(edge >= 0) & (edge < len(start))]


def weights(score: np.ndarray) -> np.ndarray:
    """|score| / sum |score| of units [n]; zeros if every score is 0."""
    total = np.abs(score).sum()
    return np.abs(score) / total if total > 0 else np.zeros_like(score)


def from_tokens(token_score: np.ndarray, word_of_token: np.ndarray, start: np.ndarray, end: np.ndarray) -> Explanation:
    """Token scores [tokens] summed to words [words], as the tokenizer defines them.

    Raises:
        ValueError: a score is not finite.
    """
    score = np.bincount(word_of_token, weights=token_score, minlength=len(start))
    if not np.all(np.isfinite(score)):
        raise ValueError("a score is not finite")
    return Explanation(start, end, score, weights(score))


def from_units(units: Units, score: np.ndarray, **more: Any) -> Explanation:
    """An explanation from one score per unit [n]; if a score is not finite, it is `not_finite` and all scores are 0."""
    score = np.asarray(score, dtype=np.float64)
    status = NO_UNITS if not len(units) else OK if np.any(score) else DEGENERATE
    if not np.all(np.isfinite(score)):
        score, status = np.zeros_like(score), NOT_FINITE
    if status != OK:
        more = {**more, "residual": None}
    more |= {"unit_kind": units.kind, "status": status, "beside": units.beside, "boxes": units.boxes}
    return Explanation(units.start, units.end, score, weights(score), **more)


def top_spans(explanation: Explanation, count: int, spoken: np.ndarray | None = None, words: int = 0) -> list[tuple[int, int]]:
    """The `count` strongest runs of neighbouring units of the text, as half-open ranges of unit numbers, strongest first.

    The `words` strongest units that speak for the answer (default three per span) are selected and neighbours joined; a run's
    strength is the sum of its scores. If nothing speaks for the answer, the strongest units against it are selected. Units that
    are not `spoken` [units] (punctuation) tell a reader nothing: they are shown only between two selected ones.
    """
    explanation = explanation.of_text
    score = explanation.score if np.any(explanation.score > 0) else explanation.weight
    eligible = score > 0
    if spoken is not None and np.any(eligible & spoken):
        eligible &= spoken
    order = np.argsort(-score, kind="stable")
    selected = np.zeros(len(score) + 2, dtype=bool)
    selected[order[eligible[order]][: words or 3 * count] + 1] = True
    if spoken is not None:
        selected[1:-1] |= selected[:-2] & selected[2:] & ~spoken
    units = np.flatnonzero(selected[1:-1])
    if not len(units):
        return []
    runs = np.split(units, np.flatnonzero(np.diff(units) > 1) + 1)
    runs.sort(key=lambda run: (-float(score[run].sum()), int(run[0])))
    return [(int(run[0]), int(run[-1]) + 1) for run in runs[:count]]


def evidence_rows(explanation: Explanation, spans: list[tuple[int, int]]) -> list[dict[str, float | int]]:
    """Spans as values of an evidence column: characters from the first unit's start to the last unit's end, scores summed."""
    return [
        {
            "start": int(explanation.start[first]),
            "end": int(explanation.end[stop - 1]),
            "score": float(explanation.score[first:stop].sum()),
            "weight": float(explanation.weight[first:stop].sum()),
        }
        for first, stop in spans
    ]
