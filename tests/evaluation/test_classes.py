"""Measures of classes, on examples small enough to work out by hand."""

import numpy as np
import pytest

from engine.errors import ContractError
from engine.evaluation import classes

GOLD = ["C50", "C50", "C34", "C34", "C61"]
CALLED = ["C50", "C34", "C34", "C34", "C18"]


def test_f1_by_hand():
    # C50: 1 hit, 2 gold, 1 called -> 2/3; C34: 2 hits, 2 gold, 3 called -> 4/5; C61: 0; C18: called only, in no mean.
    assert classes.macro_f1(GOLD, CALLED) == pytest.approx((2 / 3 + 4 / 5) / 3)


def test_keepable_share_takes_rows_in_order_of_confidence():
    prob = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert classes.keepable_share(prob, [1, 1, 0, 1, 1], target=0.75) == 1.0  # 4 of 5
    assert classes.keepable_share(prob, [1, 1, 0, 1, 0], target=0.75) == 0.8  # 3 of 4 recovers after the error
    assert classes.keepable_share(prob, [1, 1, 0, 0, 1], target=0.75) == 0.4
    assert classes.keepable_share(prob, [0, 1, 1, 0, 0], target=0.75) == 0.0


def test_equal_probabilities_are_kept_or_left_together():
    prob, right = [0.9, 0.8, 0.8, 0.8, 0.1], [1, 1, 1, 0, 1]
    assert classes.keepable_share(prob, right, target=0.9) == 0.2
    cuts, coverage, risk = classes.risk_coverage(prob, right)
    assert cuts.tolist() == [0.9, 0.8, 0.1]
    assert coverage.tolist() == pytest.approx([0.2, 0.8, 1.0])
    assert risk.tolist() == pytest.approx([0.0, 0.25, 0.2])


def test_threshold_keeps_what_equals_it():
    kept = classes.at_threshold([0.9, 0.5, 0.4], [1, 0, 1], 0.5)
    assert (kept["n"], kept["share"], kept["accuracy"]) == (2, 2 / 3, 0.5)
    nothing = classes.at_threshold([0.9, 0.5, 0.4], [1, 0, 1], 1.01)
    assert (nothing["n"], nothing["share"], nothing["accuracy"]) == (0, 0.0, None)


def test_bootstrap_draws_whole_patients():
    right = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=float)
    as_two = classes.bootstrap_interval(lambda rows: right[rows].mean(), list("aaaabbbb"), rounds=200)
    assert as_two == (0.0, 1.0)  # both patients twice are drawn a quarter of the time each
    as_eight = classes.bootstrap_interval(lambda rows: right[rows].mean(), list("abcdefgh"), rounds=200)
    assert 0.0 < as_eight[0] < 0.5 < as_eight[1] < 1.0
    assert as_eight == classes.bootstrap_interval(lambda rows: right[rows].mean(), list("abcdefgh"), rounds=200)


def test_summary_has_the_names_that_cards_use():
    figures = classes.summary(GOLD, CALLED, [0.9, 0.2, 0.8, 0.7, 0.1])
    assert figures == {"n": 5, "classes": 3, "accuracy": 0.6, "macro_f1": pytest.approx(22 / 45), "keepable_share": 0.6}


@pytest.mark.parametrize("gold, called", [([], []), (["a"], ["a", "b"])])
def test_what_does_not_pair_is_refused(gold, called):
    with pytest.raises(ContractError):
        classes.macro_f1(gold, called)


def test_a_probability_that_is_no_number_is_refused():
    with pytest.raises(ContractError, match="not finite"):
        classes.keepable_share([0.5, float("nan")], [1, 1])
