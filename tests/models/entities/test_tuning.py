"""Thresholds tuned on candidates, worked out by hand."""

import numpy as np
import pyarrow as pa

from engine.models.entities.scores import candidate_type
from engine.models.entities.tuning import MarkedTexts, ScoredTexts, f1, select_all, tune
from engine.models.prompt_mrc.config import Candidate, Decoding, TagDecoding


def span(first, last, start=0.9, end=0.9, match=0.9, text=0, kind=0):
    named = {"start_score": start, "end_score": end, "match_score": match}
    score = float(min(each for each in named.values() if each is not None))
    return Candidate(text, kind, first, last, score, (first, last), 0, False, **named)


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
    assert len(select_all(tagged, TagDecoding(start=0.9, end=0.9))) == 2
    best, score = tune(tagged, {(0, 0, 0, 0)}, TagDecoding(nested=False))
    assert (best.start, best.end, best.match, score) == (0.5, 0.5, 0.7, 1.0)


def test_the_lowest_thresholds_let_all_candidates_through():
    low = {0: [span(0, 0, 0.1, 0.1, 0.1)]}
    (own,) = Decoding().variants()
    assert len(select_all(low, own.floor())) == 1 and not select_all(low, Decoding(start=0.1))


def scored(gold):
    """A text with four candidates, of which an A and a B claim the same place, and another A lies within."""
    rows = [
        {
            **{"type": kind, "first": first, "last": last, "start": 10 * first, "end": 10 * last + 9, "margin": margin},
            **dict.fromkeys(("score", "start_score", "end_score", "match_score"), score),
            **{"window": 0, "first_token": first, "last_token": last, "edge": False, "zero_shot": False, "outside": 0.0},
        }
        for kind, first, last, score, margin in (
            ("A", 0, 4, 0.9, -0.5),
            ("B", 0, 4, 0.8, 0.5),
            ("A", 1, 1, 0.7, 2.0),
            ("A", 7, 8, 0.9, 1.0),
        )
    ]
    table = pa.table({"row": pa.array([0], pa.int32()), "candidates": pa.array([rows], pa.list_(candidate_type(Candidate)))})
    marked = MarkedTexts(["a"], ["text"], [[]], [frozenset("AB")])
    return ScoredTexts(marked, ("A", "B"), Candidate, table, {(0, *span) for span in gold})


def test_spans_nest_only_if_that_finds_more():
    flat, nested = Decoding(nested=False, flat_across_types=True), Decoding()
    rows = np.array([0])
    # Flat: the B and the last A. Nested: all four.
    for gold, best, f1_of_best in (
        ({(0, 4, 1), (7, 8, 0)}, "flat", 1.0),
        ({(0, 4, 1), (7, 8, 0), (1, 1, 0)}, "nested", 6 / 7),
        ({(0, 4, 0), (0, 4, 1), (7, 8, 0), (1, 1, 0)}, "nested", 1.0),
    ):
        decoding, score = scored(gold).tune([flat, nested], rows)
        assert (decoding.overlaps, score) == (best, f1_of_best)
    # Where both are equally good, the first is taken.
    for decodings in ([flat, nested], [nested, flat]):
        assert scored({(8, 9, 0)}).tune(decodings, rows)[0] == decodings[0]
    assert scored({(0, 4, 1), (7, 8, 0)}).predict(flat, rows) == [[(0, 49, "B"), (70, 89, "A")]]


def test_decodings_beside_that_of_a_model():
    own = Decoding(start=0.3, nested=False)
    assert [each.overlaps for each in own.alternatives()] == ["flat within each type", "flat", "nested"]
    assert [each.overlaps for each in TagDecoding(nested=False).alternatives()] == ["flat within each type", "flat"]
    assert [each.overlaps for each in Decoding().alternatives()] == ["nested", "flat"]
    assert {each.start for each in own.alternatives()} == {0.3}


def test_f1_is_zero_without_anything_to_find():
    assert f1({}, set(), Decoding(), lambda each: True) == 0.0
