"""Which of the windows' candidates are kept."""

from dataclasses import replace
from typing import ClassVar

import pytest

from engine.errors import ConfigError
from engine.models.entities import candidates
from engine.models.entities.candidates import Candidate, select
from tests.toys.tagged import Decoding as Strict


class Loose(candidates.Decoding):
    """Without thresholds."""

    thresholds: ClassVar = {}


def span(first, last, score, kind=0, window=0, edge=False, margin=None):
    return Candidate(0, kind, first, last, score, (0, 0), window, edge, margin)


def test_nested_spans_are_kept_and_equal_ones_of_two_windows_are_merged():
    spans = select([span(0, 4, 0.6), span(1, 2, 0.9), span(1, 2, 0.7, window=3), span(1, 2, 0.5, 1)], Loose())
    assert [(each.first, each.last, each.type, each.score) for each in spans] == [(0, 4, 0, 0.6), (1, 2, 0, 0.9), (1, 2, 1, 0.5)]


def test_flat_spans_of_a_type_do_not_overlap_and_the_better_one_is_kept():
    spans = [span(0, 2, 0.6), span(2, 3, 0.9), span(3, 5, 0.8), span(1, 3, 0.5, 1)]
    per_type = select(spans, Loose(nested=False))
    assert [(each.first, each.last, each.type) for each in per_type] == [(1, 3, 1), (2, 3, 0)]
    alone = select(spans, Loose(nested=False, flat_across_types=True))
    assert [(each.first, each.last, each.type) for each in alone] == [(2, 3, 0)]


def test_flat_decoding_drops_a_span_whose_place_another_type_claims():
    # The better score does not help the span whose margin is negative, nor does it exclude another one.
    spans = [span(0, 2, 0.9, margin=-0.1), span(0, 2, 0.6, 1, margin=0.1), span(4, 4, 0.7, margin=0.0), span(6, 6, 0.7)]
    flat = Loose(nested=False, flat_across_types=True)
    assert [(each.first, each.type) for each in select(spans, flat)] == [(0, 1), (4, 0), (6, 0)]
    assert len(select(spans, Loose(nested=False))) == len(select(spans, Loose())) == 4
    # Of equal spans the one that counts is the one seen whole.
    seen = [span(0, 2, 0.9, edge=True, margin=2.0), span(0, 2, 0.5, window=3, margin=-2.0)]
    assert select(seen, flat) == []


def test_a_span_that_a_window_may_have_cut_gives_way():
    cut, whole = span(3, 4, 0.7, edge=True), span(3, 6, 0.9, window=2)
    assert select([cut, whole], Loose()) == [whole]
    # In one window both were seen under the same conditions: nested spans are kept.
    assert len(select([cut, span(3, 6, 0.9)], Loose())) == 2


def test_a_span_that_one_window_holds_whole_counts_as_whole():
    # Words 0 to 10 with 4 to 5 of the same type within: the first window ends with the outer span, the second holds both.
    outer = [span(0, 10, 0.95, edge=True), span(0, 10, 0.90, window=3)]
    inner = span(4, 5, 0.8, window=3)
    assert select([*outer, inner], Loose()) == [outer[1], inner]
    # The span that the first window cut is dropped although it has the better score, and excludes nothing.
    cut, whole = span(1, 5, 0.95, edge=True), span(1, 10, 0.90, window=3)
    assert select([cut, whole], Loose()) == [whole]
    assert select([cut, whole], Loose(nested=False)) == [whole]
    # Of two that are both cut the better one is kept; one of another type is no rival.
    other = span(3, 8, 0.7, window=3, edge=True)
    assert select([cut, other], Loose()) == [cut]
    assert len(select([cut, span(1, 10, 0.2, kind=1, window=3)], Loose())) == 2


def test_types_that_were_not_trained_compete_among_themselves():
    old, new = span(0, 2, 0.9), replace(span(1, 3, 0.6, 1), zero_shot=True)
    assert select([old, new], Loose(nested=False, flat_across_types=True)) == [old, new]
    assert select([old, replace(old, first=1)], Loose(nested=False, flat_across_types=True)) == [old]


def test_thresholds_variants_and_alternatives():
    strict = Strict(least=0.7)
    assert [strict.passes(span(0, 0, score)) for score in (0.7, 0.71)] == [False, True]
    assert strict.tuned == ("least",) and strict.variants() == [strict]
    assert strict.floor().least < 0.1 and strict.floor().longest == strict.longest
    # A tagger has one answer a place; other decodings may nest.
    assert [each.overlaps for each in strict.alternatives()] == ["flat"]
    assert [each.overlaps for each in Loose(nested=False).alternatives()] == ["flat within each type", "flat", "nested"]


def test_impossible_thresholds_and_modes_are_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Strict(least=1.0)
    with pytest.raises(ConfigError, match="longest must lie between 1 and 30"):
        Strict(longest=31)
    with pytest.raises(ConfigError, match="exclude each other"):
        Strict(nested=True)
