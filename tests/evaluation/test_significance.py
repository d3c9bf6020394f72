"""Means over seeds and paired tests, against scipy and by hand."""

import pytest
from scipy.stats import ttest_rel

from engine.errors import ContractError
from engine.evaluation.significance import against_zero, holm, over_seeds, paired


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
