"""What of an answer a slightly other probability would change, by probabilities worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from engine.models.columns import matrix_column
from engine.models.site_classifier.checkpoint import TaskCalibration
from engine.models.site_classifier.config import Task
from engine.models.site_classifier.decide import DecisionConfig
from engine.models.site_classifier.gpu_check import unsure

COLUMNS = ["site_code", "site_decision", "decision"]


def told(probability, multi_label=False, **calibration):
    """The columns unsure of one report whose better code of two, or only code, has a probability."""
    logit = float(np.log(probability / (1 - probability)))
    task = Task("site", ("a",) if multi_label else ("a", "b"), (20, 20)[: 2 - multi_label], multi_label)
    scores = pa.table({"row": [7], "site_logits": matrix_column(np.array([[logit, 0.0][: len(task.labels)]], np.float32))})
    system = SimpleNamespace(
        config=SimpleNamespace(tasks=(task,)),
        checkpoint=SimpleNamespace(calibration={"site": TaskCalibration(1.0, 0.9, {}, **calibration)}),
        decision=DecisionConfig(),
        scores=lambda prepared: scores,
    )
    return unsure(system, None, 0.02)[7]


@pytest.mark.parametrize("probability", [0.885, 0.915, 0.505])
def test_what_is_near_a_threshold_or_another_code_is_unsure(probability):
    assert told(probability) == COLUMNS


@pytest.mark.parametrize("probability", [0.87, 0.93, 0.7, 0.53])
def test_what_is_farther_is_sure(probability):
    assert told(probability) == []


def test_so_is_a_text_about_as_far_from_others_as_is_let_pass():
    # The logits are (ln 19, 0), and 2.944 from a centre at the origin.
    for farthest, columns in ((2.95, COLUMNS), (4.0, []), (2.0, [])):
        assert told(0.95, centres=((0.0, 0.0),), farthest=farthest) == columns


def test_a_yes_or_no_is_unsure_about_one_half():
    assert told(0.51, multi_label=True) == COLUMNS and told(0.9, multi_label=True) == []
