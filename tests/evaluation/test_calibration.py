"""Temperature, calibration error and the fitted threshold, with numbers worked by hand."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from engine.errors import ContractError
from engine.evaluation import calibration as cal


def test_temperature_of_two_classes_has_a_closed_form():
    # Margin 3 and 3 of 4 right: the best T gives sigmoid(3 / T) = 3/4, so T = 3 / ln 3.
    logits, targets = [[3.0, 0.0]] * 4, [0, 0, 0, 1]
    t = cal.temperature(logits, targets)
    assert t == pytest.approx(3 / math.log(3), rel=1e-4)


@pytest.mark.parametrize(
    "logits, targets",
    [
        ([[2.0, 0.0], [0.0, 2.0]], [0, 1]),  # all right
        ([[2.0], [1.0]], [0, 0]),  # one class
        ([[2.0, 0.0]], [-1]),  # nothing known
    ],
)
def test_no_best_temperature_leaves_the_scores_alone(logits, targets):
    assert cal.temperature(logits, targets) == 1.0


def test_rows_of_an_unknown_class_do_not_count_in_the_fit():
    known = cal.temperature([[3.0, 0.0]] * 4, [0, 0, 0, 1])
    assert cal.temperature([[3.0, 0.0]] * 4 + [[9.0, 0.0]] * 3, [0, 0, 0, 1, -1, -1, -1]) == known


def test_always_wrong_stays_within_bounds():
    assert cal.temperature([[5.0, 0.0]] * 3, [1, 1, 1]) == pytest.approx(20.0, rel=1e-3)


def test_calibration_error_by_hand():
    # Two bins of two: stated 0.25 and 0.85, right 0.5 and 1.0.
    assert cal.expected_calibration_error([0.2, 0.3, 0.8, 0.9], [0, 1, 1, 1], bins=2) == pytest.approx((0.25 + 0.15) / 2)
    assert cal.expected_calibration_error([1.0, 1.0], [1, 1]) == 0.0


def test_brier_by_hand():
    assert cal.brier([[0.8, 0.2], [0.4, 0.6]], [0, 0]) == pytest.approx((0.08 + 0.72) / 2)
    assert cal.brier([[0.6, 0.8]], [-1]) == pytest.approx(1.0)


def test_lower_bound_by_hand():
    # All of n right: the bound is the n-th root of the error level.
    assert cal.lower_bound(149, 149) == pytest.approx(0.05 ** (1 / 149)) and cal.lower_bound(149, 149) >= 0.98
    assert cal.lower_bound(148, 148) < 0.98
    # 1 of 2: P(at least 1 of 2) = 1 - (1 - p)^2 = 0.05.
    assert cal.lower_bound(1, 2) == pytest.approx(1 - math.sqrt(0.95))
    assert cal.lower_bound(0, 3) == 0.0
    with pytest.raises(ContractError):
        cal.lower_bound(3, 2)


def test_smallest_provable_number_of_rows():
    assert cal.smallest_provable(0.5, 0.25) == 2
    assert cal.Promise(0.98, 0.95).least == 203 and cal.Promise(0.98, 0.95, 1).least == 149


@pytest.mark.parametrize("starts", [3, 1])
@pytest.mark.parametrize("rows", [9, 44, 203])
def test_the_highest_target_is_what_so_many_rows_are_the_least_for(rows, starts):
    highest = cal.Promise(0.5, 0.95, starts).highest(rows)
    assert cal.Promise(highest - 1e-6, 0.95, starts).least <= rows < cal.Promise(highest + 1e-3, 0.95, starts).least


def _rows(n, wrong):
    """n falling probabilities, wrong at the given ranks (from 0)."""
    prob = np.linspace(1.0, 0.5, n)
    right = np.ones(n, dtype=bool)
    right[list(wrong)] = False
    return prob, right


def test_all_right_keeps_everything():
    prob, right = _rows(149, [])
    fitted = cal.fit_threshold(prob, right, starts=1)
    assert (fitted.n, fitted.share, fitted.accuracy, fitted.threshold) == (149, 1.0, 1.0, 0.5)
    assert fitted.bound == pytest.approx(0.05 ** (1 / 149))


def test_too_few_rows_prove_nothing():
    fitted = cal.fit_threshold(*_rows(148, []), starts=1)
    assert (fitted.threshold, fitted.n, fitted.share, fitted.accuracy, fitted.bound) == (cal.NOTHING, 0, 0.0, None, None)


def test_the_sequence_ends_at_the_first_cut_that_fails():
    # Rows 150-155 wrong: at 149 rows it passes, at 159 (step 10) it fails, and the 841 right rows after that are not tried
    # although all 1,000 with 6 errors would pass (12 are allowed).
    prob, right = _rows(1000, range(150, 156))
    assert cal.lower_bound(994, 1000) >= 0.98
    fitted = cal.fit_threshold(prob, right, starts=1)
    assert (fitted.n, fitted.accuracy) == (149, 1.0)
    assert fitted.threshold == prob[148]


def test_further_starts_survive_an_early_error():
    prob, right = _rows(1000, [3])
    assert cal.fit_threshold(prob, right, starts=1).n == 0
    fitted = cal.fit_threshold(prob, right, starts=3)
    assert (fitted.n, fitted.share, fitted.accuracy) == (1000, 1.0, 0.999)


def test_ties_stay_together():
    prob = np.concatenate([np.full(200, 0.9), np.full(100, 0.4)])
    right = np.concatenate([np.ones(200, dtype=bool), np.zeros(100, dtype=bool)])
    fitted = cal.fit_threshold(prob, right, starts=1)
    assert (fitted.threshold, fitted.n) == (0.9, 200)


def test_the_promise_holds_over_many_draws():
    """Where 97.9 % are right everywhere, whatever is kept breaks the promise: in at most 5 % of draws it may happen.

    Taking the lowest of all cuts whose bound passes breaks it several times as often.
    """
    generator, n = np.random.default_rng(7), 2000
    prob, counts = np.linspace(1.0, 0.5, n), np.arange(1, n + 1)
    broken = broken_by_search = 0
    for _ in range(200):
        right = generator.random(n) < 0.979
        broken += cal.fit_threshold(prob, right).n > 0
        hits = right.cumsum()
        broken_by_search += bool((beta.ppf(0.05, hits, counts - hits + 1) >= 0.98).any())
    assert broken <= 18  # 10 expected at most; 18 or fewer in 99 of 100 such tests
    assert broken_by_search > 30


def test_nonsense_settings_are_refused():
    with pytest.raises(ContractError, match="target"):
        cal.fit_threshold([0.5], [1], target=1.0)


def test_isotonic_by_hand():
    # Sorted: right 0 1 0 1 1 1. The fall from the second to the third row is pooled to one half; then all are right. n = 6, so
    # shares are kept within 1/8 and 7/8, and a thousandth of the probability is mixed in.
    x, y = cal.isotonic([0.3, 0.4, 0.5, 0.7, 0.8, 0.9], [0, 1, 0, 1, 1, 1])

    def expected(share, prob):
        return 0.999 * share + 0.001 * prob

    for prob, share in (
        (0.0, 1 / 8),
        (0.3, 1 / 8),
        (0.4, 0.5),
        (0.45, 0.5),
        (0.5, 0.5),
        (0.7, 7 / 8),
        (0.9, 7 / 8),
        (1.0, 7 / 8),
    ):
        assert np.interp(prob, x, y) == pytest.approx(expected(share, prob))
    assert np.interp(0.6, x, y) == pytest.approx(expected((0.5 + 7 / 8) / 2, 0.6))


def test_an_isotonic_curve_keeps_the_order_of_every_two_rows():
    generator = np.random.default_rng(5)
    prob = np.unique(generator.random(500))
    right = generator.random(prob.size) < prob**2
    moved = np.interp(prob, *cal.isotonic(prob, right))
    assert (np.diff(moved) > 0).all()
    assert cal.expected_calibration_error(moved, right) < cal.expected_calibration_error(prob, right) / 2
    for cut in (0, 250, prob.size - 1):
        assert ((moved >= moved[cut]) == (prob >= prob[cut])).all()


def test_folds_hold_groups_together_and_are_alike_in_size():
    groups = [f"p{i // 3}" for i in range(30)]
    fold = cal.folds(groups, 5)
    assert sorted(np.bincount(fold)) == [6] * 5
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 30, 3))
    assert set(cal.folds(["a", "b", "b"], 5)) == {0, 1}
    with pytest.raises(ContractError):
        cal.folds(["a", "a"], 5)


def test_cross_fitting_never_fits_on_the_row_it_is_applied_to():
    groups = [f"p{i // 2}" for i in range(20)]
    seen = cal.cross_fitted(lambda rows: {groups[i] for i in rows}, lambda fitted, rows: [fitted] * len(rows), groups, 4)
    assert all(groups[i] not in fitted and len(fitted) in (7, 8) for i, fitted in enumerate(seen))
    assert cal.cross_fitted(lambda rows: None, lambda _, rows: rows * 10, groups, 4) == [10 * i for i in range(20)]
