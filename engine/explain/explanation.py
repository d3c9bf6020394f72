"""One explanation: how much each unit of a text spoke for an answer, and the spans worth showing.

`score` is signed and in units of what is explained (log-odds here); `weight` is |score| / sum |score| over all units of the text,
so weights sum to 1, or are all 0 where every score is (`degenerate`).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Explanation:
    """Units of one text and one target: half-open character offsets [n], scores [n] and weights [n]."""

    start: np.ndarray
    end: np.ndarray
    score: np.ndarray
    weight: np.ndarray

    @property
    def degenerate(self) -> bool:
        return not np.any(self.weight)


def from_tokens(token_score: np.ndarray, word_of_token: np.ndarray, start: np.ndarray, end: np.ndarray) -> Explanation:
    """Token scores [tokens] summed to the words [words] that the tokenizer itself names.

    Raises:
        ValueError: a score is not finite.
    """
    score = np.bincount(word_of_token, weights=token_score, minlength=len(start))
    if not np.all(np.isfinite(score)):
        raise ValueError("a score is not finite")
    total = np.abs(score).sum()
    weight = np.abs(score) / total if total > 0 else np.zeros_like(score)
    return Explanation(start, end, score, weight)


def top_spans(explanation: Explanation, count: int, spoken: np.ndarray | None = None, words: int = 0) -> list[tuple[int, int]]:
    """The `count` strongest runs of neighbouring units, as half-open ranges of unit numbers, strongest first.

    Of all units that speak for the answer the `words` strongest (default three a span) are taken and neighbours joined; a run's
    strength is the sum of its scores. A text in which nothing speaks for the answer shows what weighs most against it.
    Units that are not `spoken` [units] (punctuation) tell a reader nothing: they are shown only between two that are taken.
    """
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
