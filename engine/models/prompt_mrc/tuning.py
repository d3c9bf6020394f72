"""Thresholds of decoding, set by what they do on validation texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate, settle
from engine.models.prompt_mrc.scores import candidates_of

FLOOR = 0.1
"""What every candidate must pass to be thought of."""

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OFFSETS = (0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 3.0)
"""What is tried as a tagger's `outside`; of equal ones the first stays."""

_NAMES = ("start", "end", "match")
Gold = set[tuple[int, int, int, int]]


def floor(decoding: Decoding) -> Decoding:
    """Thresholds that let through whatever `tune` may want."""
    return replace(decoding, **{name: FLOOR - 1e-6 for name in _NAMES})


def tried(decoding: Decoding, tagger: bool) -> list[Decoding]:
    """The decodings whose candidates are enough to find the best one: of a tagger one for each of `OFFSETS`, since `outside`
    changes what the candidates are."""
    offsets = dict.fromkeys((*OFFSETS, decoding.outside)) if tagger else [decoding.outside]
    return [floor(replace(decoding, outside=offset)) for offset in offsets]


def tune(
    found: Mapping[int, Sequence[Candidate]],
    gold: Gold,
    decoding: Decoding,
    keep: Callable[[Candidate], bool] = lambda each: True,
) -> tuple[Decoding, float]:
    """Thresholds of the best exact F1, and that F1: one after the other over a grid, twice, from those given.

    A value takes another's place only where it is better, so that few texts do not drive it to an end of the grid. A tagger has
    but one, that of `match`; its `outside` changes what the candidates are, and is not set here (see `Decoding`).

    Args:
        found: candidates by text, at the thresholds of `floor`. gold: (text, first word, last word, type).
        keep: which spans count.
    """
    best, most = decoding, f1(found, gold, decoding, keep)
    tagged = any(each.match_score is None for some in found.values() for each in some)
    for _ in range(1 if tagged else 2):
        for name in _NAMES[2:] if tagged else _NAMES:
            for value in sorted(GRID, key=lambda each: abs(each - 0.5)):
                tried = replace(best, **{name: value})
                if tried != best and (score := f1(found, gold, tried, keep)) > most:
                    best, most = tried, score
    return best, most


def best(
    scores: pa.Table,
    types: Sequence[str],
    gold: Gold,
    decoding: Decoding,
    tagger: bool,
    keep: Callable[[Candidate], bool] = lambda each: True,
) -> tuple[Decoding, float]:
    """What `tune` finds on the product's scores, of a tagger under the best of all offsets; of equal ones the one given stays.

    Args:
        scores: see `engine.models.prompt_mrc.scores`; a text is known by its row. types: the types that the spans number.
    """
    begun = [replace(decoding, outside=each.outside) for each in tried(decoding, tagger)]
    begun.sort(key=lambda each: each.outside != decoding.outside)
    found = [tune(candidates_of(scores, types, each.outside), gold, each, keep) for each in begun]
    return max(found, key=lambda each: each[1])


def settled(found: Mapping[int, Sequence[Candidate]], decoding: Decoding) -> list[Candidate]:
    """The spans that stay of candidates at lower thresholds."""
    kept = []
    for text in sorted(found):
        passing = [each for each in found[text] if _passes(each, decoding)]
        kept += settle(passing, decoding)
    return kept


def _passes(each: Candidate, decoding: Decoding) -> bool:
    if each.match_score is None:
        return each.score > decoding.match
    return each.start_score > decoding.start and each.end_score > decoding.end and each.match_score > decoding.match


def f1(found: Mapping[int, Sequence[Candidate]], gold: Gold, decoding: Decoding, keep: Callable[[Candidate], bool]) -> float:
    """Exact F1 in 0..1; 0 where there is neither gold nor a span."""
    said = {(each.text, each.first, each.last, each.type) for each in settled(found, decoding) if keep(each)}
    return 2 * len(gold & said) / (len(gold) + len(said)) if gold or said else 0.0
