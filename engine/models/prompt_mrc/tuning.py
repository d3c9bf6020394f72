"""Thresholds of decoding, tuned for exact F1 on the candidates of marked texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate, select

FLOOR = 0.1
"""The lowest threshold that is tried; every candidate must pass it."""

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OFFSETS = (0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 3.0)
"""Values that are tried as a tagger's `outside`; of equally good ones the first is taken."""

_THRESHOLDS = ("start", "end", "match")
Gold = set[tuple[int, int, int, int]]


def lowest_decodings(decoding: Decoding, tagger: bool) -> list[Decoding]:
    """The decodings whose candidates suffice to tune thresholds: with the lowest thresholds, and for a tagger one for each of
    `OFFSETS`, because `outside` changes what its candidates are."""
    offsets = dict.fromkeys((*OFFSETS, decoding.outside)) if tagger else [decoding.outside]
    return [replace(decoding, outside=offset, **dict.fromkeys(_THRESHOLDS, FLOOR - 1e-6)) for offset in offsets]


def tune(
    candidates: Mapping[int, Sequence[Candidate]],
    gold: Gold,
    decoding: Decoding,
    counts: Callable[[Candidate], bool] = lambda span: True,
) -> tuple[Decoding, float]:
    """The thresholds of the best exact F1, and that F1: one threshold after the other over a grid, twice, from those given.

    A value replaces another only if it is better, so that a few texts do not drive it to an end of the grid. A tagger has only
    the threshold `match`; its `outside` is not tuned here.

    Args:
        candidates: by text, under `lowest_decodings`. gold: (text, first word, last word, type). counts: which spans count.
    """
    best, best_f1 = decoding, f1(candidates, gold, decoding, counts)
    tagger = any(span.match_score is None for spans in candidates.values() for span in spans)
    for _ in range(1 if tagger else 2):
        for name in _THRESHOLDS[2:] if tagger else _THRESHOLDS:
            for value in sorted(GRID, key=lambda value: abs(value - 0.5)):
                changed = replace(best, **{name: value})
                if changed != best and (score := f1(candidates, gold, changed, counts)) > best_f1:
                    best, best_f1 = changed, score
    return best, best_f1


def select_all(candidates: Mapping[int, Sequence[Candidate]], decoding: Decoding) -> list[Candidate]:
    """The spans of each text that are kept under higher thresholds than those of the candidates."""

    def passes(span: Candidate) -> bool:
        if span.match_score is None:
            return span.score > decoding.match
        return all(getattr(span, f"{name}_score") > getattr(decoding, name) for name in _THRESHOLDS)

    return [span for text in sorted(candidates) for span in select(list(filter(passes, candidates[text])), decoding)]


def f1(
    candidates: Mapping[int, Sequence[Candidate]], gold: Gold, decoding: Decoding, counts: Callable[[Candidate], bool]
) -> float:
    """Exact F1 from 0 to 1; 0 where there is neither gold nor a span."""
    return exact_figures(gold, {(span.text, *span.key) for span in select_all(candidates, decoding) if counts(span)})[2]


def exact_figures(gold: set[Any], predicted: set[Any]) -> tuple[float, float, float]:
    """Precision, recall and F1 of equal elements; 0 where there is nothing to divide by."""
    right = len(gold & predicted)
    precision, recall = right / len(predicted) if predicted else 0.0, right / len(gold) if gold else 0.0
    return precision, recall, 2 * right / (len(gold) + len(predicted)) if gold or predicted else 0.0
