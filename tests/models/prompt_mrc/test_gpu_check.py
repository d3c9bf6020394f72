"""Which spans a slightly other probability would bring or take away, by candidates worked out by hand."""

from types import SimpleNamespace

import pyarrow as pa

from engine.models.prompt_mrc.config import Decoding
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.gpu_check import unsure


def span(first, last, kind=0, score=0.8, start=0.9, end=0.9, match=0.9):
    return Candidate(0, kind, first, last, score, start, end, match, 0, (first, last), 0, False)


def told(*some, **decoding):
    """The spans unsure of one text, of ten words of one letter."""
    words = pa.table({"row": [4], "word_start": [[*range(0, 20, 2)]], "word_end": [[*range(1, 21, 2)]]})
    system = SimpleNamespace(
        decoding=Decoding(**{"nested": False, **decoding}),
        names=("A", "B"),
        under=lambda prepared, lower: [[(each, 0.0) for each in some]],
    )
    return unsure(system, words, 0.02)[4]


def test_a_span_is_unsure_where_one_of_its_thresholds_is_near():
    assert told(span(0, 1), span(4, 5, start=0.53)) == []
    assert told(span(0, 1), span(4, 5, start=0.51)) == [("A", 8, 11)]
    assert told(span(0, 1), span(4, 5, match=0.49), span(8, 8, end=0.47)) == [("A", 8, 11)]


def test_so_are_two_that_exclude_each_other_with_scores_alike():
    assert told(span(0, 1, score=0.8), span(1, 2, score=0.79)) == [("A", 0, 3), ("A", 2, 5)]
    assert told(span(0, 1, score=0.8), span(1, 2, score=0.7)) == []
    assert told(span(0, 1, score=0.8), span(2, 3, score=0.79)) == []
    assert told(span(0, 1, score=0.8), span(1, 2, score=0.79), nested=True) == []
    other = span(0, 1, score=0.8), span(1, 2, kind=1, score=0.79)
    assert told(*other) == [] and told(*other, flat_across_types=True) == [("A", 0, 3), ("B", 2, 5)]


def test_what_would_give_way_to_an_unsure_span_is_unsure_too():
    assert told(span(0, 1, score=0.9, match=0.49), span(1, 2, score=0.7)) == [("A", 0, 3), ("A", 2, 5)]


def test_a_tagger_has_one_threshold():
    assert told(span(0, 1, score=0.51, match=None), span(4, 4, score=0.6, match=None)) == [("A", 0, 3)]
