"""Thresholds tuned on candidates, worked out by hand."""

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.scores import lowest_decodings
from engine.models.prompt_mrc.tuning import f1, select_all, tune


def span(first, last, start=0.9, end=0.9, match=0.9, text=0, kind=0):
    scores = (start, end) if match is None else (start, end, match)
    score = float(min(scores))
    return Candidate(text, kind, first, last, score, start, end, match, 0, (first, last), 0, False)


def test_a_threshold_moves_only_for_a_better_f1():
    candidates = {0: [span(0, 1), span(5, 6, match=0.35), span(8, 9, start=0.6)], 1: [span(0, 0, end=0.15, text=1)]}
    gold = {(0, 0, 1, 0), (0, 5, 6, 0)}
    # At 0.5 of the two marked spans 0-1 is found, and 8-9 beside it. Match at 0.3 adds 5-6; start at 0.6 drops 8-9.
    assert f1(candidates, gold, Decoding(), lambda each: True) == 0.5
    best, score = tune(candidates, gold, Decoding())
    assert (best.start, best.end, best.match, score) == (0.6, 0.5, 0.3, 1.0)
    assert tune(candidates, gold, Decoding(), lambda each: each.first != 8)[0].start == 0.5


def test_a_tagger_has_one_threshold():
    tagged = {0: [span(0, 0, start=0.8, end=0.8, match=None), span(3, 3, start=0.65, end=0.65, match=None)]}
    assert len(select_all(tagged, Decoding(start=0.9, end=0.9))) == 2
    best, score = tune(tagged, {(0, 0, 0, 0)}, Decoding(nested=False))
    assert (best.start, best.end, best.match, score) == (0.5, 0.5, 0.7, 1.0)


def test_the_lowest_thresholds_let_all_candidates_through():
    low = {0: [span(0, 0, 0.1, 0.1, 0.1)]}
    (lowest,) = lowest_decodings(Decoding(), tagger=False)
    assert len(select_all(low, lowest)) == 1 and not select_all(low, Decoding(start=0.1))


def test_f1_is_zero_without_anything_to_find():
    assert f1({}, set(), Decoding(), lambda each: True) == 0.0
