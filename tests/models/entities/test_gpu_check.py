"""Spans that would appear or vanish with slightly different probabilities, by candidates worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa

from engine.models.entities.gpu_check import unsure
from engine.models.prompt_mrc import Extractor
from engine.models.prompt_mrc.config import Candidate, Decoding, TagDecoding


def span(first, last, kind=0, score=0.8, start=0.9, end=0.9, match=0.9):
    named = {"start_score": start, "end_score": end, "match_score": match}
    return Candidate(0, kind, first, last, score, (first, last), 0, False, **named)


def unsure_of(*spans, kind=Decoding, **decoding):
    """The unsure spans of a text of ten one-letter words."""
    words = pa.table({"row": [4], "word_start": [[*range(0, 20, 2)]], "word_end": [[*range(1, 21, 2)]]})
    system = SimpleNamespace(
        decoding=kind(**{"nested": False, **decoding}),
        margin_slope=Extractor.margin_slope,
        names=("A", "B"),
        candidates=lambda prepared, decodings: [list(spans)],
    )
    return unsure(system, words, 0.02)[4]


def test_a_span_is_unsure_where_one_of_its_thresholds_is_near():
    assert unsure_of(span(0, 1), span(4, 5, start=0.53)) == []
    assert unsure_of(span(0, 1), span(4, 5, start=0.51)) == [("A", 8, 11)]
    assert unsure_of(span(0, 1), span(4, 5, match=0.49), span(8, 8, end=0.47)) == [("A", 8, 11)]


def test_two_that_exclude_each_other_are_unsure_if_their_scores_are_close():
    assert unsure_of(span(0, 1, score=0.8), span(1, 2, score=0.79)) == [("A", 0, 3), ("A", 2, 5)]
    assert unsure_of(span(0, 1, score=0.8), span(1, 2, score=0.7)) == []
    assert unsure_of(span(0, 1, score=0.8), span(2, 3, score=0.79)) == []
    assert unsure_of(span(0, 1, score=0.8), span(1, 2, score=0.79), nested=True) == []
    other = span(0, 1, score=0.8), span(1, 2, kind=1, score=0.79)
    assert unsure_of(*other) == [] and unsure_of(*other, flat_across_types=True) == [("A", 0, 3), ("B", 2, 5)]


def test_where_another_type_claims_a_place_as_strongly_all_that_overlap_are_unsure():
    flat = {"flat_across_types": True}
    claimed = replace(span(0, 3, score=0.9), margin=0.4)
    assert unsure_of(claimed, span(2, 2, kind=1, score=0.6), span(6, 6), **flat) == [("A", 0, 7), ("B", 4, 5)]
    assert unsure_of(claimed, span(2, 2, kind=1, score=0.6)) == []
    assert unsure_of(replace(claimed, margin=0.5), span(2, 2, kind=1, score=0.6), **flat) == []


def test_a_span_that_an_unsure_one_may_exclude_is_unsure_too():
    assert unsure_of(span(0, 1, score=0.9, match=0.49), span(1, 2, score=0.7)) == [("A", 0, 3), ("A", 2, 5)]


def test_a_tagger_has_one_threshold():
    tagged = span(0, 1, score=0.51, match=None), span(4, 4, score=0.6, match=None)
    assert unsure_of(*tagged, kind=TagDecoding) == [("A", 0, 3)]
