"""Phrases put into texts, and evidence that finds them or not: worked by hand."""

import numpy as np
import pytest

from engine.studies.means import plain_mean, share
from engine.studies.planting import Shown, chance, look, plant, stamp, touches

# "tumor of the colon , stage two", words at these offsets.
STARTS, ENDS = np.array([0, 6, 9, 13, 19, 21, 27]), np.array([5, 8, 12, 18, 20, 26, 30])
COLON = (13, 18)


def shown(*spans):
    return Shown("C18", spans, STARTS, ENDS)


class Drawn:
    """A generator that draws what it is told."""

    def __init__(self, value):
        self.value = value

    def integers(self, high):
        assert self.value < high
        return self.value

    def random(self):
        return self.value


@pytest.mark.parametrize(
    ("place", "text", "span"),
    [
        (0, "mark it one  two\n", (0, 7)),
        (1, "one mark it  two\n", (4, 11)),
        (2, "one  two mark it\n", (9, 16)),
    ],
)
def test_a_phrase_stands_between_words_and_its_place_is_told(place, text, span):
    assert plant("one  two\n", "mark it", Drawn(place)) == (text, span)
    assert text[slice(*span)] == "mark it"


def test_there_are_as_many_places_as_words_and_one():
    with pytest.raises(AssertionError):
        plant("one  two\n", "x", Drawn(3))
    assert plant("", "mark it", Drawn(0)) == ("mark it", (0, 7))


def test_every_place_of_a_real_draw_is_true():
    text = "Café 𝛼-catenin: positive.\r\nKi-67\u00a020 %"
    for seed in range(20):
        found, (start, end) = plant(text, "held for review", np.random.default_rng(seed))
        assert found[start:end] == "held for review"
        assert (found[:start] + found[end:]).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(("draw", "text", "span"), [(0.2, "UNIT 7\none two", (0, 6)), (0.7, "one two\nUNIT 7", (8, 14))])
def test_a_stamp_has_its_own_line_at_head_or_foot(draw, text, span):
    assert stamp("one two", "UNIT 7", Drawn(draw)) == (text, span)


def test_spans_that_only_meet_do_not_touch():
    assert touches((0, 5), (4, 9)) and touches((4, 9), (0, 5)) and touches((0, 9), (3, 4))
    assert not touches((0, 5), (5, 9)) and not touches((5, 9), (0, 5))


def test_the_random_control_counts_every_place():
    planted = np.array([0, 0, 1, 1, 0, 0], dtype=bool)
    assert chance(planted, 1) == pytest.approx(2 / 6)
    # Runs of two start at 0 to 4; those at 1, 2 and 3 hold a planted word.
    assert chance(planted, 2) == pytest.approx(3 / 5)
    assert chance(planted, 6) == 1.0
    assert chance(planted, 0) == 0.0 and chance(planted, 7) == 0.0


def test_what_the_strongest_span_shows():
    # "of the" first, then "colon": one of seven words is planted, and runs of two touch it at 2 of 6 places.
    found = look(shown((6, 12), (13, 18)), COLON)
    assert (found.top, found.whole, found.any_span, found.words) == (False, False, True, 2)
    assert found.chance == pytest.approx(2 / 6)
    found = look(shown((9, 20)), COLON)
    assert (found.top, found.whole, found.any_span, found.words) == (True, True, True, 3)
    part = look(shown((13, 18)), (13, 26))
    assert (part.top, part.whole, part.words) == (True, False, 1)
    assert part.chance == pytest.approx(3 / 7)


def test_no_evidence_finds_nothing():
    found = look(shown(), COLON)
    assert (found.top, found.any_span, found.chance, found.words) == (False, False, 0.0, 0)


def test_shares_have_exact_intervals_and_nothing_has_none():
    found = share("hits", [True, True, True, False])
    assert (found.value, found.n) == (0.75, 4)
    # Clopper and Pearson for 3 of 4.
    assert (found.low, found.high) == (pytest.approx(0.1941, abs=1e-4), pytest.approx(0.9937, abs=1e-4))
    assert (share("hits", []).value, share("hits", []).n) == (None, 0)
    assert plain_mean("words", [1.0, 4.0]).value == 2.5 and plain_mean("words", []).value is None
