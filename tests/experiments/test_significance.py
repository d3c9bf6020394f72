"""Means over seeds and paired tests, against scipy and by hand."""

import pytest
from scipy.stats import ttest_rel

from engine.errors import ContractError
from engine.evaluation.resample import Estimate
from engine.experiments.significance import against_zero, difference, holm, mean_difference, over_seeds, paired


def test_mean_and_interval_by_hand():
    # Standard deviation 1, standard error 1/sqrt(3), t of 2 degrees 4.3027.
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == (
        2.0,
        pytest.approx(2 - 4.302653 / 3**0.5),
        pytest.approx(2 + 4.302653 / 3**0.5),
    )
    assert over_seeds([0.5]).low is None
    with pytest.raises(ContractError):
        over_seeds([])


def test_paired_is_that_of_scipy():
    one, other = [0.81, 0.83, 0.80, 0.84], [0.80, 0.80, 0.79, 0.81]
    estimate, p = paired(one, other)
    assert estimate.value == pytest.approx(0.02) and p == pytest.approx(ttest_rel(one, other).pvalue)
    assert paired([0.5], [0.4])[1] is None


def test_without_spread_there_is_no_test():
    assert paired([0.5, 0.6], [0.5, 0.6])[1] is None
    # A mean of 0.1 three times is not 0.1 to the last bit: there is no spread all the same.
    found, p = against_zero([0.1, 0.1, 0.1])
    assert (found.value, p) == (pytest.approx(0.1), None)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.04: times 3, 2, 1 is 0.03, 0.04, 0.04; no value below the one before it.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.02, 0.025]) == pytest.approx([0.04, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.04, 0.01, None, 0.02]) == pytest.approx([0.04, 0.03, None, 0.04])


def test_a_difference_that_is_sure_and_one_that_is_none():
    gold = {str(number): [(0, 1, "A")] for number in range(30)}
    none = {name: [] for name in gold}
    estimate, p = difference(gold, gold, none, rounds=200)
    # No draw of 200 is on the other side, and what was measured counts as one more: twice 1 / 201.
    assert (estimate.value, estimate.low, p) == (1.0, 1.0, pytest.approx(2 / 201))
    assert difference(gold, gold, gold, rounds=200)[1] == 1.0
    assert difference(gold, gold, none, rounds=0) == (Estimate(1.0), None)
    moved = {name: [(0, 2, "A")] for name in gold}
    assert difference(gold, moved, none, way="overlap_", rounds=50)[0].value == 1.0


def test_the_difference_of_several_pairs_is_their_mean():
    gold = {str(number): [(0, 1, "A")] for number in range(4)}
    none, half = {name: [] for name in gold}, {name: gold[name] if int(name) < 2 else [] for name in gold}
    # F1 of 1 less 0, and of 2/3 less 1.
    estimate, p = mean_difference(gold, [(gold, none), (half, gold)], rounds=100)
    assert estimate.value == pytest.approx((1 - 1 / 3) / 2) and 0 < p <= 1
