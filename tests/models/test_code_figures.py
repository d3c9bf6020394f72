"""What is said of a training that was too small or too poor."""

import pytest

from engine.models.code_figures import cautions

GOOD = {
    "model": {"n": 700, "accuracy": 0.96, "macro_f1": 0.8},
    "baseline": {"accuracy": 0.93, "macro_f1": 0.7},
    "calibration": {"n": 650, "bound": 0.981, "target": 0.98, "confidence": 0.95},
    "codes": {"all": 5, "supported": 5},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"baseline": None}, []),
        (
            {"model": {"n": 700, "accuracy": 0.4, "macro_f1": 0.8}},
            ["site: worse than the baseline, TF-IDF with logistic regression (accuracy 0.400 against 0.930): do not use it"],
        ),
        (
            {"model": {"n": 3, "accuracy": 1.0, "macro_f1": 1.0}},
            ["site: 3 test reports with a code prove only that the accuracy is at least 0.368 (95 % confidence)"],
        ),
        (
            {"calibration": {**GOOD["calibration"], "n": 1, "bound": None}},
            ["site: 1 valid report with a code is too few for a threshold: 98 % right with 95 % confidence takes 203 without an"],
        ),
        (
            {"calibration": {**GOOD["calibration"], "bound": None}},
            ["site: no threshold on the 650 valid reports keeps 98 % right with 95 % confidence, so every report goes"],
        ),
        ({"codes": {"all": 5, "supported": 2}}, ["site: 3 of 5 codes have fewer than 10 training reports"]),
        ({"codes": {"all": 5, "supported": 0}}, ["site: all 5 codes have fewer than 10 training reports"]),
    ],
)
def test_each_weakness_of_a_task_has_its_line(changes, told):
    found = cautions({"tasks": {"site": GOOD | changes}})
    assert len(found) == len(told) and all(line.startswith(start) for line, start in zip(found, told, strict=True))
