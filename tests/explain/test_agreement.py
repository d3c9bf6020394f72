import numpy as np
import pytest

from engine.errors import RowError
from engine.explain.agreement import agreement, gold_units, runs
from engine.explain.explanation import from_units
from engine.text.units import Units

START = np.array([0, 5, 10, 15])
UNITS = Units("word", START, START + 4, np.arange(4))


def test_agreement_by_hand():
    found = agreement(from_units(UNITS, np.array([5, -3, 1, 1])), np.array([True, False, True, False]))
    assert found == pytest.approx({"cov_topk": 0.5, "cov_mass": 0.6, "cov_lift": 1.2, "auprc": 0.75, "iou_f1": 2 / 3})


def test_a_perfect_explanation():
    found = agreement(from_units(UNITS, np.array([0, 2, 2, 0])), np.array([False, True, True, False]))
    assert found == {"cov_topk": 1, "cov_mass": 1, "cov_lift": 2, "auprc": 1, "iou_f1": 1}


def test_without_gold_or_weights_there_is_nothing_to_agree_on():
    assert set(agreement(from_units(UNITS, np.ones(4)), np.zeros(4, dtype=bool)).values()) == {None}
    assert set(agreement(from_units(UNITS, np.zeros(4)), np.ones(4, dtype=bool)).values()) == {None}


def test_gold_is_every_unit_that_a_span_touches():
    assert gold_units(START, START + 4, [(3, 6), (15, 16)], 19).tolist() == [True, True, False, True]
    assert gold_units(START, START + 4, [(4, 5)], 19).tolist() == [False] * 4


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 20)])
def test_a_span_that_does_not_lie_in_the_text_is_refused(span):
    with pytest.raises(RowError, match="does not lie in a text of 19 characters"):
        gold_units(START, START + 4, [span], 19)


def test_runs():
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, dtype=bool)) == []
