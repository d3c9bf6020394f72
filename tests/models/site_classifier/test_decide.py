import numpy as np
import pytest

from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task
from engine.models.site_classifier.decide import Answer, DecisionConfig, answer, probabilities, row_decision

TASK = Task("site", ("C18", "C34", "C50"), (100, 50, 2))


def test_temperature_by_hand():
    odds = np.exp([1.0, 0.0])
    assert probabilities(np.array([[2.0, 0.0]]), 2.0, False)[0] == pytest.approx(odds / odds.sum())
    assert probabilities(np.array([[0.0, 2.0]]), 1.0, True)[0] == pytest.approx([0.5, 1 / (1 + np.exp(-2.0))])


def test_above_the_threshold_is_auto():
    found = answer(TASK, np.array([9.0, 0.0, 0.0]), TaskCalibration(threshold=0.98), DecisionConfig())
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
    found = answer(TASK, np.array(logits), TaskCalibration(threshold=0.98), DecisionConfig())
    assert found.decision == "review"
    assert found.reasons == reasons


def test_too_little_energy_is_out_of_distribution():
    calm = TaskCalibration(threshold=0.3, energy_floor=2.0)
    assert answer(TASK, np.array([1.0, 0.0, 0.0]), calm, DecisionConfig()).reasons == ("out_of_distribution",)


def test_without_a_fitted_threshold_nothing_is_auto():
    assert answer(TASK, np.array([99.0, 0.0, 0.0]), TaskCalibration(), DecisionConfig()).decision == "review"


def test_a_given_threshold_replaces_the_fitted_one():
    config = DecisionConfig(thresholds={"site": 0.4})
    assert answer(TASK, np.array([1.0, 0.0, 0.0]), TaskCalibration(), config).decision == "auto"


def test_multi_label_joins_its_codes_and_is_as_sure_as_the_least_sure():
    task = Task("site", TASK.labels, (20, 20, 20), multi_label=True)
    found = answer(task, np.array([3.0, -2.0, 1.0]), TaskCalibration(threshold=0.7), DecisionConfig())
    assert found.code == "C18;C50"
    assert found.prob == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert found.decision == "auto"


def sure(code, *reasons):
    return Answer(code, 0.9, "review" if reasons else "auto", [], reasons)


def decided(answers, **changes):
    values = {"truncated_chars": 0, "letters": 500, "pairs": frozenset(), **changes}
    return row_decision(answers, DecisionConfig(), **values)


def test_only_the_required_tasks_must_be_sure():
    assert decided({"site": sure("C18"), "histology": sure("8140/3", "low_confidence")}) == ("auto", [])
    assert decided({"site": sure("C18", "low_confidence"), "histology": sure("8140/3")}) == ("review", ["low_confidence"])


def test_reasons_of_the_whole_report():
    answers = {"site": sure("C18"), "histology": sure("9440/3")}
    assert decided(answers, truncated_chars=7) == ("review", ["text_truncated"])
    assert decided(answers, letters=3) == ("review", ["no_diagnosis_text"])
    assert decided(answers, pairs=frozenset({("C18", "8140/3")})) == ("review", ["task_disagreement"])
    assert decided(answers, pairs=frozenset({("C18", "9440/3")})) == ("auto", [])
