"""Bounds and thresholds of findings, on numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from engine.models.findings.decide import FindingCalibration
from engine.models.findings.fitting import Promise, best_cut, bounds, fit_finding, platt

PROMISE = Promise(0.95, 0.9, 0.95)


def f32(*values):
    return np.array(values, np.float32)


def test_no_promise_for_fewer_cases_than_could_ever_show_it():
    # 0.95 ** 58 = 0.0510, 0.95 ** 59 = 0.0485; 0.9 ** 28 = 0.0523, 0.9 ** 29 = 0.0471.
    assert PROMISE.least == (59, 29)
    prob = np.linspace(0, 1, 58 + 29, dtype=np.float32)
    positive = np.arange(len(prob)) >= 29
    assert bounds(prob, positive, PROMISE)[0] is None and bounds(prob, positive, PROMISE)[1] is not None
    assert bounds(prob, np.arange(len(prob)) >= 28, PROMISE)[1] is None


def test_with_just_enough_cases_the_bounds_are_the_outermost():
    positives, negatives = f32(*np.linspace(0.4, 0.9, 59)), f32(*np.linspace(0.1, 0.6, 29))
    lower, upper = bounds(np.concatenate([positives, negatives]), np.arange(88) < 59, PROMISE)
    assert lower == float(positives.min()) and upper == float(np.nextafter(negatives.max(), np.float32(1)))


def test_with_more_cases_as_many_may_lie_outside_as_the_bound_allows():
    # Of 100 positives 98 have the lower bound 0.9384 and 99 have 0.9534; of 100 negatives 95 have 0.8977 and 96 have 0.9108.
    positives, negatives = f32(*np.linspace(0.5, 0.99, 100)), f32(*np.linspace(0.01, 0.5, 100))
    lower, upper = bounds(np.concatenate([positives, negatives]), np.arange(200) < 100, PROMISE)
    assert lower == float(np.sort(positives)[1]) and upper == float(np.nextafter(np.sort(negatives)[95], np.float32(1)))


@given(st.integers(60, 90), st.integers(30, 60), st.integers(0, 2**32 - 1))
def test_the_bounds_keep_what_they_promise_and_the_next_cut_would_not(yes, no, seed):
    rng = np.random.default_rng(seed)
    prob = rng.choice(np.linspace(0, 1, 40), yes + no).astype(np.float32)
    positive = np.arange(yes + no) < yes
    lower, upper = bounds(prob, positive, PROMISE)

    def bound(hits, n):
        return binomtest(int(hits), int(n), alternative="greater").proportion_ci(0.95, "exact").low

    reach, below = prob[positive], prob[~positive]
    assert bound((reach >= np.float32(lower)).sum(), yes) >= 0.95 > bound((reach > np.float32(lower)).sum(), yes)
    assert bound((below < np.float32(upper)).sum(), no) >= 0.9 > bound((below < below[below < np.float32(upper)].max()).sum(), no)


def test_the_best_cut_is_the_one_with_the_highest_matthews_correlation():
    prob, positive = f32(0.1, 0.2, 0.3, 0.4, 0.8, 0.9), np.array([0, 0, 1, 0, 1, 1], bool)
    # At 0.8: 2 of 3 found, none wrong: (2 * 3 - 0) / sqrt(2 * 3 * 3 * 4) = 0.707; at 0.3: 3 found, 1 wrong: 6 / sqrt(72) = 0.707.
    assert best_cut(prob, positive) == pytest.approx(0.3)
    assert best_cut(prob, positive, low=0.35) == pytest.approx(0.8)


def test_classes_far_apart_have_one_cut_with_both_promises():
    logits, states = np.concatenate([np.linspace(2, 5, 80), np.linspace(-5, -2, 80)]), np.repeat([1.0, 0.0], 80)
    fitted = fit_finding(logits, states, PROMISE, FindingCalibration())
    assert fitted.lower == fitted.upper == fitted.threshold and (fitted.positives, fitted.negatives) == (80, 80)
    prob = fitted.probabilities(logits)
    assert ((prob >= np.float32(fitted.threshold)) == (states == 1)).all() and not fitted.unclear(prob).any()


def test_classes_that_overlap_have_an_unclear_range_with_the_threshold_in_it():
    rng = np.random.default_rng(1)
    states = np.repeat([1.0, 0.0], 300)
    fitted = fit_finding(rng.normal(size=600) + 1.5 * states, states, PROMISE, FindingCalibration())
    assert 0 < fitted.lower < fitted.threshold < fitted.upper < 1


def test_unknown_states_are_left_out_and_a_rare_finding_has_a_threshold_without_promise():
    logits = np.array([3.0, 2.0, -1.0, -2.0, 9.0, -9.0])
    states = np.array([1.0, 1.0, 0.0, 0.0, np.nan, -1.0])
    fitted = fit_finding(logits, states, PROMISE, FindingCalibration(lower=0.1, upper=0.2))
    assert (fitted.positives, fitted.negatives, fitted.lower, fitted.upper, fitted.promised) == (2, 2, None, None, False)
    assert fitted.threshold == pytest.approx(float(fitted.probabilities(np.array([2.0]))[0]))


def test_without_yes_or_no_the_earlier_scaling_stays():
    previous = FindingCalibration(3.0, 0.5, 0.7, 0.1, 0.9, 100, 100)
    fitted = fit_finding(np.array([1.0, 2.0]), np.array([0.0, 0.0]), PROMISE, previous)
    assert fitted == FindingCalibration(3.0, 0.5, 0.7, None, None, 0, 2)


def test_platt_scaling_finds_the_sigmoid_that_drew_the_states_and_never_turns_the_order():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20_000)
    states = rng.random(20_000) < 1 / (1 + np.exp(-(2.5 * logits - 1)))
    temperature, bias = platt(logits, states)
    assert 1 / temperature == pytest.approx(2.5, abs=0.1) and bias == pytest.approx(-1, abs=0.06)
    # The same for scores squeezed together, as differences of cosines are.
    squeezed, shift = platt(logits * 1e-4, states)
    assert squeezed == pytest.approx(temperature * 1e-4, rel=1e-3) and shift == pytest.approx(bias, abs=1e-3)
    assert platt(-logits, states)[0] > 0


@given(st.integers(0, 200), st.floats(1e-3, 100), st.floats(-5, 5))
def test_scaling_keeps_the_order(seed, spread, centre):
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.3
    positive[:2] = True, False
    logits = (rng.standard_normal(60) + positive) * spread + centre
    temperature, bias = platt(logits, positive)
    assert temperature > 0
    assert np.array_equal(np.argsort(logits / temperature + bias, kind="stable"), np.argsort(logits, kind="stable"))


def test_squeezed_scores_become_honest_probabilities():
    rng = np.random.default_rng(1)
    positive = rng.random(4000) < 0.2
    logits = 0.005 * rng.standard_normal(4000) + 0.01 * positive
    temperature, bias = platt(logits, positive)
    assert expit(logits / temperature + bias).mean() == pytest.approx(0.2, abs=0.01)
