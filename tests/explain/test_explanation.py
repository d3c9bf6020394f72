import numpy as np
import pytest

from engine.explain.explanation import evidence_rows, from_tokens, top_spans

START, END = np.array([0, 5, 11, 13, 20]), np.array([4, 10, 12, 19, 25])


def explained(scores):
    return from_tokens(np.array(scores, float), np.arange(5), START, END)


def test_tokens_sum_to_words_and_weights_to_one():
    found = from_tokens(np.array([1.0, 2.0, -1.0, 4.0]), np.array([0, 0, 1, 2]), START[:3], END[:3])
    assert found.score.tolist() == [3.0, -1.0, 4.0]
    assert found.weight.tolist() == [3 / 8, 1 / 8, 4 / 8]


def test_all_zero_is_degenerate_and_has_no_evidence():
    found = explained([0, 0, 0, 0, 0])
    assert found.degenerate
    assert top_spans(found, 3) == []


def test_neighbours_join_and_the_strongest_run_comes_first():
    found = explained([1, 2, 0, 2.5, -9])
    assert top_spans(found, 2) == [(0, 2), (3, 4)]
    assert evidence_rows(found, [(0, 2)]) == [{"start": 0, "end": 10, "score": 3.0, "weight": pytest.approx(3 / 14.5)}]


def test_no_more_spans_than_asked():
    assert top_spans(explained([3, 0, 2, 0, 1]), 2) == [(0, 1), (2, 3)]
    assert top_spans(explained([3, 0, 2, 0, 1]), 1, words=1) == [(0, 1)]


def test_where_nothing_speaks_for_the_answer_the_strongest_against_is_shown():
    assert top_spans(explained([-1, 0, -5, 0, -2]), 1) == [(2, 3)]


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        explained([1, np.nan, 0, 0, 0])


def test_punctuation_is_shown_only_between_words_that_are():
    spoken = np.array([True, False, True, False, True])
    assert top_spans(explained([3, 1, 2, 9, 0]), 3, spoken) == [(0, 3)]
    assert top_spans(explained([0, 4, 0, 9, 1]), 3, spoken) == [(4, 5)]
    assert top_spans(explained([0, 4, 0, 9, 0]), 1, spoken) == [(3, 4)]
