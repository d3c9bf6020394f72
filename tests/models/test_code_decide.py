import numpy as np
import pytest

from engine.models.code_decide import adjusted, answer, auto_codes, probabilities
from engine.models.code_task import Task, TaskCalibration
from engine.models.options import CodeOptions
from engine.records import REASONS

TASK = Task("site", ("C18", "C34", "C50"), (100, 50, 2))


def test_temperature_by_hand():
    odds = np.exp([1.0, 0.0])
    assert probabilities(np.array([[2.0, 0.0]]), 2.0, False)[0] == pytest.approx(odds / odds.sum())
    assert probabilities(np.array([[0.0, 2.0]]), 1.0, True)[0] == pytest.approx([0.5, 1 / (1 + np.exp(-2.0))])


def test_above_the_threshold_is_auto():
    found = answer(TASK, np.array([9.0, 0.0, 0.0]), TaskCalibration(threshold=0.98), CodeOptions())
    assert (found.code, found.decision, found.reasons) == ("C18", "auto", ())
    assert [entry["code"] for entry in found.top] == ["C18", "C34", "C50"]


@pytest.mark.parametrize(
    ("logits", "reasons"),
    [
        ([2.0, 0.0, 0.0], ("low_confidence",)),
        ([1.0, 0.9, 0.0], ("low_confidence", "low_margin")),
        ([0.0, 0.0, 9.0], ("rare_class_below_support",)),
    ],
)
def test_why_a_person_must_look(logits, reasons):
    found = answer(TASK, np.array(logits), TaskCalibration(threshold=0.98), CodeOptions())
    assert found.decision == "review"
    assert found.reasons == reasons


@pytest.mark.parametrize(
    ("logits", "reasons"),
    [
        ([9.0, 0.0, 0.0], ()),
        ([9.0, 3.0, 4.0], ()),  # exactly 5 from the first centre
        ([9.0, 3.1, 4.0], ("out_of_distribution",)),
        ([40.0, 0.0, 0.0], ("out_of_distribution",)),  # surer than any report was
        ([0.0, 9.0, 0.0], ()),
    ],
)
def test_what_lies_far_from_every_centre_is_out_of_distribution(logits, reasons):
    fitted = TaskCalibration(threshold=0.3, centres=((9.0, 0.0, 0.0), (0.0, 9.0, 0.0)), farthest=5.0)
    assert answer(TASK, np.array(logits), fitted, CodeOptions()).reasons == reasons


@pytest.mark.parametrize("fitted", [TaskCalibration(), TaskCalibration(threshold=0.5, class_thresholds={"C18": 1.01})])
def test_without_a_threshold_nothing_is_auto_however_sure_and_that_is_the_reason(fitted):
    found = answer(TASK, np.array([99.0, 0.0, 0.0]), fitted, CodeOptions())
    assert (found.decision, found.reasons) == ("review", ("no_threshold",))
    assert answer(TASK, np.array([99.0, 0.0, 0.0]), fitted, CodeOptions(thresholds={"site": 0.9})).reasons == ()
    close = answer(TASK, np.array([1.0, 0.9, 0.0]), fitted, CodeOptions())
    assert close.reasons == ("low_margin", "no_threshold")


def test_the_codes_that_can_be_auto_are_those_that_some_report_could_make_so():
    task = Task("site", ("C18", "C34", "C50", "C61"), (100, 50, 2, 10))
    fitted = TaskCalibration(threshold=0.9, class_thresholds={"C34": 1.01, "C50": 0.5})
    assert auto_codes(task, fitted, CodeOptions()) == ["C18", "C61"]
    assert auto_codes(task, fitted, CodeOptions(min_support=2)) == ["C18", "C50", "C61"]
    assert auto_codes(task, fitted, CodeOptions(thresholds={"site": 1.0})) == ["C18", "C34", "C61"]
    assert auto_codes(task, TaskCalibration(), CodeOptions(min_support=0)) == []
    for options in (CodeOptions(), CodeOptions(min_support=2), CodeOptions(thresholds={"site": 1.0})):
        surest = [answer(task, 999.0 * np.eye(4)[number], fitted, options) for number in range(4)]
        assert [each.code for each in surest if each.decision == "auto"] == auto_codes(task, fitted, options)


def test_a_tasks_reasons_stand_in_the_order_of_the_list():
    cold = TaskCalibration(threshold=0.98, centres=((0.0, 0.0, 0.0),), farthest=1.0)
    found = answer(TASK, np.array([0.0, 0.9, 1.0]), cold, CodeOptions()).reasons
    assert found == tuple(reason for reason in REASONS if reason in found) and len(found) == 4


def test_a_given_threshold_replaces_the_fitted_one():
    options = CodeOptions(thresholds={"site": 0.4})
    assert answer(TASK, np.array([1.0, 0.0, 0.0]), TaskCalibration(), options).decision == "auto"


def test_an_isotonic_curve_moves_the_best_and_keeps_order_and_sum():
    # The curve is straight from (0.5, 0.2) to (0.9, 1.0): 0.6 goes to 0.4, 0.8 to 0.8, and beyond its ends it is flat.
    curve = TaskCalibration(isotonic=((0.5, 0.9), (0.2, 1.0)))
    lower, same, higher = adjusted(np.array([[0.6, 0.35, 0.05], [0.1, 0.8, 0.1], [0.01, 0.04, 0.95]]), curve)
    assert lower == pytest.approx([0.4, 0.35 * 2 / 3, 0.05 * 2 / 3])
    assert same == pytest.approx([0.1, 0.8, 0.1])
    assert higher == pytest.approx([0.0, 0.0, 1.0])
    assert adjusted(np.array([[0.6, 0.4]]), TaskCalibration()) == pytest.approx(np.array([[0.6, 0.4]]))


def test_an_isotonic_curve_is_what_the_threshold_meets():
    logits = np.log([0.6, 0.35, 0.05])
    found = answer(TASK, logits, TaskCalibration(threshold=0.5, isotonic=((0.5, 0.9), (0.2, 1.0))), CodeOptions())
    assert (found.prob, found.decision) == (pytest.approx(0.4), "review")
    assert [entry["code"] for entry in found.top] == ["C18", "C34", "C50"]


def test_a_code_has_its_own_threshold_and_a_given_one_replaces_it():
    fitted = TaskCalibration(threshold=1.01, class_thresholds={"C18": 0.5})
    assert answer(TASK, np.log([0.6, 0.3, 0.1]), fitted, CodeOptions()).decision == "auto"
    assert answer(TASK, np.log([0.3, 0.6, 0.1]), fitted, CodeOptions()).decision == "review"
    assert answer(TASK, np.log([0.6, 0.3, 0.1]), fitted, CodeOptions(thresholds={"site": 0.9})).decision == "review"


def test_multi_label_joins_its_codes_and_is_as_sure_as_the_least_sure():
    task = Task("site", TASK.labels, (20, 20, 20), multi_label=True)
    found = answer(task, np.array([3.0, -2.0, 1.0]), TaskCalibration(threshold=0.7), CodeOptions())
    assert found.code == "C18;C50"
    assert found.prob == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert found.decision == "auto"
