"""Fitting a task's calibration: what each method promises, on logits with known outcomes, and what it shows of itself."""

import numpy as np
import pytest
from scipy.special import log_softmax

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.models.code_calibrate import PER_CLASS, TEMPERATURE, Settings
from engine.models.code_calibrating import (
    MIN_FOR_CENTRES,
    Effect,
    decisions_of,
    fit,
    fit_centres,
    highest_target,
    least_rows,
    outcome,
    recalibrate,
)
from engine.models.code_decide import nearest
from engine.models.code_task import Task, TaskCalibration

TASK = Task("site", ("C18", "C34", "C50"), (100, 100, 100))
MANY = Task("codes", ("a", "b"), (50, 50), multi_label=True)


def sample(n=1500, seed=0):
    """Logits whose margin says how often the code is right; C50 is never wrong."""
    generator = np.random.default_rng(seed)
    best = generator.integers(3, size=n)
    margin = generator.uniform(0, 12, n)
    logits = np.zeros((n, 3))
    logits[np.arange(n), best] = margin
    wrong = (generator.random(n) > 1 / (1 + 2 * np.exp(-margin / 1.5))) & (best != 2)
    gold = np.where(wrong, (best + 1) % 3, best)
    return [TASK.labels[i] for i in gold], logits


def test_an_outcome_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = outcome(TASK, ["C18", "C50", None, "C99"], logits, TaskCalibration())
    assert found.rows.tolist() == [0, 1, 3] and found.predicted.tolist() == ["C18", "C34", "C50"]
    assert found.certainty == pytest.approx([0.7, 0.6, 0.8])
    assert found.right.tolist() == [True, False, False] and found.targets.tolist() == [0, 2, -1]
    moved = outcome(TASK, ["C18", "C50", None, "C99"], logits, TaskCalibration(isotonic=((0.0, 1.0), (0.0, 0.5))))
    assert moved.certainty == pytest.approx([0.35, 0.3, 0.4]) and moved.right.tolist() == found.right.tolist()


def test_several_labels_are_right_together_or_not_at_all():
    logits = np.array([[2.0, -1.0], [0.5, 3.0]])
    found = outcome(MANY, [["a"], ["b"]], logits, TaskCalibration())
    assert found.predicted.tolist() == ["a", "a;b"] and found.right.tolist() == [True, False]
    assert found.certainty == pytest.approx([1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-0.5))])
    assert found.scores.tolist() == [[0, 2.0], [0, -1.0], [0, 0.5], [0, 3.0]] and found.targets.tolist() == [1, 0, 0, 1]


def test_temperature_is_what_the_parts_give():
    values, logits = sample()
    fitted = fit(TASK, values, logits, 0.95)
    raw = outcome(TASK, values, logits, TaskCalibration())
    assert fitted.temperature == pytest.approx(calibration.temperature(raw.scores, raw.targets))
    before, after = (log_softmax(logits / t, axis=1)[np.arange(1500), raw.targets].mean() for t in (1.0, fitted.temperature))
    assert fitted.temperature > 1 and after > before
    found = outcome(TASK, values, logits, TaskCalibration(fitted.temperature))
    assert fitted.threshold == calibration.fit_threshold(found.certainty, found.right, 0.95).threshold <= 1
    assert (fitted.figures["n"], fitted.figures["kept"]) == (1500, sum(found.certainty >= fitted.threshold))
    assert (fitted.isotonic, fitted.class_thresholds) == (None, None)


def test_isotonic_keeps_the_same_reports_and_is_more_honest():
    values, logits = sample()
    plain, curved = fit(TASK, values, logits, 0.95), fit(TASK, values, logits, 0.95, method="isotonic")
    one, other = decisions_of(TASK, values, logits, plain), decisions_of(TASK, values, logits, curved)
    assert [kept for kept, _, _ in one] == [kept for kept, _, _ in other] and sum(kept for kept, _, _ in one) > 300
    fresh, more = sample(seed=1)
    errors = [
        calibration.expected_calibration_error(
            *zip(*[(prob, right) for _, right, prob in decisions_of(TASK, fresh, more, each)], strict=True)
        )
        for each in (TaskCalibration(), curved)
    ]
    assert errors[1] < errors[0]


def test_per_class_keeps_the_promise_for_each_code():
    values, logits = sample(3000)
    fitted = fit(TASK, values, logits, 0.95, method="per_class")
    assert set(fitted.class_thresholds) == set(TASK.labels)
    # C50 is always right, so that its cut lies lower than the others'.
    assert fitted.class_thresholds["C50"] < min(fitted.class_thresholds["C18"], fitted.class_thresholds["C34"])
    assert fitted.threshold == calibration.NOTHING
    kept = sum(each for each, _, _ in decisions_of(TASK, values, logits, fitted))
    # The distance from the centres, too far for half a percent of the sample, holds a few more back.
    assert 0 <= fitted.figures["kept"] - kept <= 15 and fitted.figures["accuracy"] > fitted.figures["bound"] > 0.95
    fresh, more = sample(3000, seed=1)
    found = outcome(TASK, fresh, more, fitted)
    kept = np.array([each for each, _, _ in decisions_of(TASK, fresh, more, fitted)])
    for code in TASK.labels:
        mine = kept & (found.predicted == code)
        assert mine.sum() > 200 and found.right[mine].mean() > 0.94


def test_codes_with_few_reports_share_a_cut():
    values, logits = sample(170)
    fitted = fit(TASK, values, logits, 0.95, method="per_class")
    assert set(fitted.class_thresholds) <= set(TASK.labels) and len(fitted.class_thresholds) < 3


def test_too_few_reports_keep_nothing():
    values = ["C18"] * (least_rows(0.98, 0.95) - 1)
    logits = np.tile([9.0, 0.0, 0.0], (len(values), 1))
    assert least_rows(0.98, 0.95) == 203 and least_rows(0.98, 0.95, PER_CLASS) == 149
    assert fit(TASK, values, logits, 0.98).threshold == calibration.NOTHING
    assert fit(TASK, [*values, "C18"], np.vstack([logits, logits[:1]]), 0.98).threshold <= 1
    assert fit(TASK, values, logits, 0.98, method="isotonic").threshold == calibration.NOTHING


@pytest.mark.parametrize("method", [TEMPERATURE, PER_CLASS])
@pytest.mark.parametrize("rows", [9, 44, 203])
def test_the_highest_target_is_what_so_many_rows_are_the_least_for(rows, method):
    highest = highest_target(rows, 0.95, method)
    assert least_rows(highest - 1e-6, 0.95, method) <= rows < least_rows(highest + 1e-3, 0.95, method)


def test_per_class_needs_one_code_a_report():
    with pytest.raises(ConfigError, match="several codes"):
        fit(MANY, [["a"]], np.zeros((1, 2)), 0.9, method="per_class")


def test_reports_lie_around_the_centres_of_their_codes():
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(3)
    logits = centres[rng.integers(0, 3, 3000)] + rng.normal(size=(3000, 3))
    fitted = fit_centres(logits)
    assert np.allclose(fitted["centres"], centres, atol=0.15)
    # A half percent of three-dimensional normal distances lies beyond 3.58.
    assert fitted["farthest"] == pytest.approx(3.58, abs=0.2)
    fresh = centres[rng.integers(0, 3, 3000)] + rng.normal(size=(3000, 3))
    assert 0.001 < (nearest(fresh, fitted["centres"]) > fitted["farthest"]).mean() < 0.01
    # As sure as the others, by energy and by probability, and of another kind.
    assert nearest(np.array([[10.0, 7.0, -9.0]]), fitted["centres"])[0] > fitted["farthest"]


def test_few_reports_have_no_centres():
    _, logits = sample(MIN_FOR_CENTRES)
    assert fit_centres(logits)["centres"] and fit_centres(logits[1:]) == {}


def test_a_users_own_reports_are_known_from_then_on():
    values, logits = sample()
    before = fit(TASK, values, logits, 0.95)
    farther = fit(TASK, values, logits + 50.0, 0.95, previous=before)
    assert farther.centres == before.centres and farther.farthest > before.farthest
    assert np.mean(nearest(logits + 50.0, farther.centres) > farther.farthest) < 0.006
    assert fit(TASK, values[:50], logits[:50], 0.95, previous=before).farthest >= before.farthest
    assert fit(TASK, values, logits, 0.95, previous=TaskCalibration()).centres is None


def test_an_effect_by_hand():
    found = Effect.of([(True, True, 0.9), (True, False, 0.9), (False, True, 0.5)])
    assert (found.n, found.kept, found.right) == (3, 2, 1)
    assert found.error == pytest.approx((0.1 + 0.9 + 0.5) / 3)


def test_reports_without_a_label_change_nothing():
    values, logits = sample(400)
    groups = [str(i) for i in range(800)]
    wanted = Settings(target=0.9, confidence=0.9)
    one = recalibrate(TASK, values, logits, groups[:400], TaskCalibration(), wanted)
    other = recalibrate(TASK, values + [None] * 400, np.vstack([logits, -logits]), groups, TaskCalibration(), wanted)
    assert one == other
    assert (one.before.kept, one.folds) == (0, 5) and one.after.n == 400 and one.after.kept > 100
    assert one.fitted.figures["cross_fitted"] == vars(one.after)
    assert recalibrate(TASK, [None] * 400, logits, groups[:400], TaskCalibration(), wanted) is None


def test_what_is_shown_comes_from_reports_that_were_not_fitted_on():
    # Two patients of 300 alike reports each, all right in one and all wrong in the other: whoever is fitted on the one fails on
    # the other, and in the fit on both nothing can be kept.
    logits = np.tile([6.0, 0.0, 0.0], (600, 1)) + np.linspace(0, 1, 600)[:, None] * [1, 0, 0]
    values, groups = ["C18"] * 300 + ["C34"] * 300, ["p"] * 300 + ["q"] * 300
    found = recalibrate(TASK, values, logits, groups, TaskCalibration(), Settings(target=0.9, confidence=0.9))
    assert found.folds == 2 and found.after.kept > 250 and found.after.right == 0


def test_one_patient_alone_can_show_nothing():
    values, logits = sample(300)
    found = recalibrate(TASK, values, logits, ["p"] * 300, TaskCalibration(), Settings(target=0.9, confidence=0.9))
    assert found.after is None and "cross_fitted" not in found.fitted.figures
