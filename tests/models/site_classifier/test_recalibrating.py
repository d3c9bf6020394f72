"""What a new calibration shows of itself."""

import numpy as np

from engine.models.site_classifier.calibrate import Settings
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.recalibrating import recalibrate
from tests.models.site_classifier.test_calibrating import TASK, sample


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
