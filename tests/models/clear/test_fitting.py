"""Calibrated log-odds, by numbers worked by hand."""

import numpy as np
import pytest

from engine.models.clear.fitting import calibrated
from engine.models.clear.space import Space
from engine.models.findings.decide import FindingCalibration


def test_a_space_takes_its_calibration_in():
    space = Space(np.eye(2), np.eye(2), np.zeros(2), np.array([[1.0], [3.0]]), np.array([0.5]), np.array([[1.0], [3.0]]))
    fitted = {"Edema": FindingCalibration(temperature=0.5, bias=-1.0, threshold=0.4, lower=0.2, upper=0.6)}
    folded, left = calibrated(space, ["Edema"], fitted)
    # z p / 0.5 and 0.5 / 0.5 - 1.
    assert folded.directions.tolist() == [[2.0], [6.0]] and folded.weights.tolist() == [[2.0], [6.0]]
    assert folded.intercepts.tolist() == [0.0]
    assert left["Edema"] == FindingCalibration(threshold=0.4, lower=0.2, upper=0.6)
    z = np.array([0.6, 0.8])
    before = fitted["Edema"].probabilities(z @ space.directions + space.intercepts)
    assert left["Edema"].probabilities(z @ folded.directions + folded.intercepts) == pytest.approx(before, abs=1e-6)
