"""Findings from logits, and what makes a study a case for a person."""

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.models.findings.decide import FindingCalibration, chosen_calibration, contradicts_itself, unclear_reasons

UNCLEAR = FindingCalibration(threshold=0.5, lower=0.3, upper=0.7)


def logit(p):
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize(
    ("prob", "pred", "clear"),
    [(0.2, 0, True), (0.29, 0, True), (0.31, 0, False), (0.5, 1, False), (0.69, 1, False), (0.71, 1, True)],
)
def test_a_probability_outside_the_bounds_is_clear(prob, pred, clear):
    label = UNCLEAR.label("Edema", logit(prob) + 1e-6)
    assert (label["pred"], label["clear"], label["lower"], label["upper"]) == (pred, clear, 0.3, 0.7)
    assert label["prob"] == pytest.approx(prob, abs=1e-5)


def test_platt_scaling_comes_first():
    label = FindingCalibration(temperature=2.0, bias=1.0, threshold=0.9).label("Edema", 3.0)
    assert label["prob"] == pytest.approx(1 / (1 + np.exp(-2.5))) and label["pred"] == 1 and label["logit"] == 3.0


def test_the_lower_bound_itself_is_unclear_and_the_upper_one_positive():
    cut = FindingCalibration().probabilities(np.array([0.5]))[0]
    at_lower = FindingCalibration(threshold=0.9, lower=float(cut), upper=0.9).label("Edema", 0.5)
    at_upper = FindingCalibration(threshold=0.1, lower=0.1, upper=float(cut)).label("Edema", 0.5)
    assert not at_lower["clear"] and at_upper["clear"] and at_upper["pred"] == 1


def test_one_cut_leaves_nothing_unclear():
    one = UNCLEAR.at(0.4)
    assert [one.label("Edema", logit(p))["pred"] for p in (0.39, 0.41)] == [0, 1]
    assert all(one.label("Edema", logit(p))["clear"] for p in (0.01, 0.39, 0.4, 0.41, 0.99))


def test_without_a_threshold_there_is_a_probability_and_no_answer():
    answer = FindingCalibration().label("Edema", 3.0)
    assert answer["prob"] > 0.9 and [answer[name] for name in ("threshold", "pred", "clear")] == [None] * 3
    assert not FindingCalibration().positive(np.array([0.1, 0.9], np.float32)).any()


def label(name, pred, clear=True, promised=True):
    return {"name": name, "pred": pred, "clear": clear and promised, **({"lower": 0.3, "upper": 0.7} if promised else {})}


@pytest.mark.parametrize(
    ("labels", "required", "reasons"),
    [
        ([label("A", 1), label("B", 0)], (), set()),
        ([label("A", 1), label("B", 0, clear=False)], (), {"near_threshold"}),
        ([label("A", 1), label("B", 0, promised=False)], (), set()),
        ([label("A", 1), label("B", 1, promised=False)], (), {"no_promise"}),
        ([label("A", 1, clear=False), label("B", 1, promised=False)], (), {"near_threshold", "no_promise"}),
        ([label("A", 0, promised=False), label("B", 0, promised=False)], (), {"no_promise"}),
        ([label("A", 1), label("B", 0, clear=False)], ("A",), set()),
        ([label("A", 1), label("B", 1, promised=False)], ("A",), set()),
        ([label("A", 1), label("B", 0, promised=False)], ("A", "B"), {"no_promise"}),
        ([label("A", 0, clear=False), label("B", 0)], ("A",), {"near_threshold"}),
        ([label("A", 1), label("B", None, promised=False)], (), set()),
        ([label("A", 1), label("B", None, promised=False)], ("B",), {"no_promise"}),
        ([label("B", None, promised=False)], (), {"no_promise"}),
    ],
)
def test_what_must_be_clear(labels, required, reasons):
    assert unclear_reasons(labels, required) == reasons


@pytest.mark.parametrize(
    ("positive", "contradicts"),
    [
        ({"No Finding"}, False),
        ({"No Finding", "Support Devices"}, False),
        ({"No Finding", "Edema"}, True),
        ({"Pneumonia"}, False),
        (set(), False),
    ],
)
def test_no_finding_beside_a_finding_is_inconsistent(positive, contradicts):
    names = ("No Finding", "Support Devices", "Edema", "Pneumonia")
    assert contradicts_itself([label(name, int(name in positive)) for name in names]) == contradicts


def test_the_users_threshold_is_one_cut_and_unknown_findings_are_refused():
    chosen = chosen_calibration(("A", "B"), {"A": UNCLEAR}, {"B": 0.25}, ())
    assert chosen["A"] == UNCLEAR and (chosen["B"].lower, chosen["B"].threshold, chosen["B"].upper) == (0.25, 0.25, 0.25)
    with pytest.raises(ConfigError, match=r"^decision.thresholds: the model has no finding 'C'; it has A, B$"):
        chosen_calibration(("A", "B"), {}, {"C": 0.5}, ())
    with pytest.raises(ConfigError, match=r"^decision.required: the model has no finding 'C'; it has A, B$"):
        chosen_calibration(("A", "B"), {}, {}, ("C",))
