"""One explanation: how much each unit of a text spoke for an answer, and the spans worth showing.

`score` is signed and in units of what is explained (log-odds here); `weight` is |score| / sum |score| over all units of the text,
so weights sum to 1, or are all 0 where every score is (`degenerate`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine.text.units import Beside, Units

OK, DEGENERATE, NO_UNITS, NOT_FINITE = "ok", "degenerate", "no_units", "not_finite"
# The explanation is sound, but of an answer that the model did not give when it was explained.
OTHER_ANSWER = "other_answer"
STATUSES = (OK, DEGENERATE, NO_UNITS, NOT_FINITE, OTHER_ANSWER)
TOLERANCE = 0.05


@dataclass(frozen=True)
class Target:
    """What is explained: a class, a label, a span of the text (`start` and `end` are its characters) or a concept.

    `source` says where it comes from: predicted, gold or counterfactual.
    """

    name: str
    kind: str = "class"
    start: int | None = None
    end: int | None = None
    source: str = "predicted"


@dataclass(frozen=True)
class Explanation:
    """Units of one record and one target: half-open character offsets [n] of those of its text, scores and weights of all, those
    of the text first and then those `beside` it.

    `target_score` is F of the record, `blank_score` F with everything erased, `residual` the sum of the scores less their
    difference; None where the method does not split that difference, or was not asked to. `settings` and `seed` are all it takes
    to make the explanation again. `checks` are measures of it by name. `stability`, of each unit, and `fusion` belong to `fused`.
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

    @property
    def degenerate(self) -> bool:
        return not np.any(self.weight)

    @property
    def complete(self) -> bool | None:
        """Whether the residual is within 5 % of what there is to explain; None where there is no residual."""
        if self.residual is None or self.target_score is None or self.blank_score is None:
            return None
        return abs(self.residual) <= TOLERANCE * abs(self.target_score - self.blank_score)

    def checked(self, checks: Mapping[str, float | None]) -> "Explanation":
        """The explanation with more checks."""
        return replace(self, checks={**self.checks, **checks})

    @property
    def of_text(self) -> "Explanation":
        """The units of the text alone, with weights that are shares of these."""
        if not self.beside:
            return self
        score, stability = self.score[: len(self.start)], self.stability
        steady = None if stability is None else stability[: len(self.start)]
        return replace(self, score=score, weight=weights(score), stability=steady, beside=())

    @property
    def shares(self) -> dict[str, float]:
        """Kind of unit -> the part of all absolute scores that lies on units of it."""
        kinds = np.array([*[self.unit_kind] * len(self.start), *(unit.kind for unit in self.beside)])
        sums = {kind: np.abs(self.score[kinds == kind]).sum() for kind in dict.fromkeys(kinds.tolist())}
        total = float(sum(sums.values()))
        return {kind: float(value) / total if total > 0 else 0.0 for kind, value in sums.items()}


def weights(score: np.ndarray) -> np.ndarray:
    """|score| / sum |score| of units [n]; zeros where every score is."""
    total = np.abs(score).sum()
    return np.abs(score) / total if total > 0 else np.zeros_like(score)


def from_tokens(token_score: np.ndarray, word_of_token: np.ndarray, start: np.ndarray, end: np.ndarray) -> Explanation:
    """Token scores [tokens] summed to the words [words] that the tokenizer itself names.

    Raises:
        ValueError: a score is not finite.
    """
    score = np.bincount(word_of_token, weights=token_score, minlength=len(start))
    if not np.all(np.isfinite(score)):
        raise ValueError("a score is not finite")
    return Explanation(start, end, score, weights(score))


def from_units(units: Units, score: np.ndarray, **more: Any) -> Explanation:
    """An explanation from one score a unit [n]; scores that are not finite make it `not_finite`, with nothing but zeros."""
    score = np.asarray(score, dtype=np.float64)
    status = NO_UNITS if not len(units) else OK if np.any(score) else DEGENERATE
    if not np.all(np.isfinite(score)):
        score, status = np.zeros_like(score), NOT_FINITE
    if status != OK:
        more = {**more, "residual": None}
    more |= {"unit_kind": units.kind, "status": status, "beside": units.beside}
    return Explanation(units.start, units.end, score, weights(score), **more)


def top_spans(explanation: Explanation, count: int, spoken: np.ndarray | None = None, words: int = 0) -> list[tuple[int, int]]:
    """The `count` strongest runs of neighbouring units of the text, as half-open ranges of unit numbers, strongest first.

    Of all units that speak for the answer the `words` strongest (default three a span) are taken and neighbours joined; a run's
    strength is the sum of its scores. A text in which nothing speaks for the answer shows what weighs most against it.
    Units that are not `spoken` [units] (punctuation) tell a reader nothing: they are shown only between two that are taken.
    """
    explanation = explanation.of_text
    score = explanation.score if np.any(explanation.score > 0) else explanation.weight
    eligible = score > 0
    if spoken is not None and np.any(eligible & spoken):
        eligible &= spoken
    order = np.argsort(-score, kind="stable")
    taken = np.zeros(len(score) + 2, dtype=bool)
    taken[order[eligible[order]][: words or 3 * count] + 1] = True
    if spoken is not None:
        taken[1:-1] |= taken[:-2] & taken[2:] & ~spoken
    found = np.flatnonzero(taken[1:-1])
    if not len(found):
        return []
    runs = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    runs.sort(key=lambda run: (-float(score[run].sum()), int(run[0])))
    return [(int(run[0]), int(run[-1]) + 1) for run in runs[:count]]


def evidence_rows(explanation: Explanation, spans: list[tuple[int, int]]) -> list[dict[str, float | int]]:
    """Spans as values of an evidence column: characters from the first unit's start to the last one's end, scores summed."""
    return [
        {
            "start": int(explanation.start[first]),
            "end": int(explanation.end[stop - 1]),
            "score": float(explanation.score[first:stop].sum()),
            "weight": float(explanation.weight[first:stop].sum()),
        }
        for first, stop in spans
    ]
