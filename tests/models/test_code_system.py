"""A system of codes from its logits on: rows, and what of them is unsure; with a network it is in tests/test_new_system.py."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.models.code_system import CodeCheckpoint, CodeSystem
from engine.models.code_task import Task, TaskCalibration, TaskConfig
from engine.models.columns import matrix_column
from engine.models.options import CodeOptions

SITE = Task("site", ("C18", "C34"), (20, 9))
COLUMNS = ["site_code", "site_decision", "decision"]
META = {"row": 7, "truncated_chars": 0}


class Known(CodeSystem):
    """Whose logits [labels] of each task are known."""

    def __init__(self, *tasks, logits=None, options=None, **calibration):
        checkpoint = CodeCheckpoint(Path(), "", TaskConfig(tasks), {"site": TaskCalibration(1.0, **calibration)})
        super().__init__(checkpoint, CodeOptions(**(options or {})), {})
        self.logits = logits

    def scores(self, prepared):
        return pa.table({"row": [7], **{f"{task}_logits": matrix_column(row[None]) for task, row in self.logits.items()}})


def logits(probability):
    """Of two codes, of which the second has a probability."""
    return np.array([0.0, np.log(probability / (1 - probability))], np.float32)


@pytest.mark.parametrize(
    ("cut", "options", "reasons"),
    [
        (0.7, {"min_support": 9}, []),
        (0.7, {}, ["rare_class_below_support"]),
        (0.8, {"min_support": 9}, ["low_confidence"]),
        (1.01, {"min_support": 9}, ["no_threshold"]),
        (1.01, {"min_support": 9, "thresholds": {"site": 0.7}}, []),
        (0.7, {"min_support": 9, "thresholds": {"site": 0.8}}, ["low_confidence"]),
    ],
)
def test_a_row_tells_code_probability_and_decision(cut, options, reasons):
    system = Known(SITE, threshold=cut, options=options)
    row = system.row(META, {"site": logits(0.75)})
    assert (row["row"], row["site_code"], row["site_name"]) == (7, "C34", "lung and bronchus")
    assert row["site_prob"] == pytest.approx(0.75) and row["site_reasons"] == tuple(reasons)
    assert row["site_decision"] == row["decision"] == ("review" if reasons else "auto")
    assert row["reasons"] == reasons and [each["code"] for each in row["site_top"]] == ["C34", "C18"]
    assert ("C34" in system.auto()["site"]) == (reasons in ([], ["low_confidence"]))


def test_a_threshold_of_a_task_that_the_model_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"^decision.thresholds: the model has no task 'sit'; it has site$"):
        Known(SITE, options={"thresholds": {"sit": 0.9}})


def test_every_task_must_be_sure_and_the_whole_text_read():
    system = Known(SITE, Task("grade", ("1", "2"), (20, 20)), threshold=0.5, options={"min_support": 0})
    row = system.row({**META, "truncated_chars": 3}, {"site": logits(0.75), "grade": logits(0.75)})
    assert (row["site_decision"], row["grade_decision"], row["grade_name"]) == ("auto", "review", None)
    assert (row["decision"], row["reasons"]) == ("review", ["no_threshold", "text_truncated"])
    assert system.limits()["no_threshold"] == (
        "2 of 2 site codes and 0 of 2 grade codes can be coded without review with this model (decision.min_support=0)."
    )


def told(probability, multi_label=False, **calibration):
    """The columns unsure of a text whose better code of two, or only code, has a probability."""
    task = Task("site", ("a",), (20,), True) if multi_label else SITE
    system = Known(task, logits={"site": logits(probability)[-len(task.labels) :]}, threshold=0.9, **calibration)
    return system.unsure(None, 0.02)[7]


@pytest.mark.parametrize("probability", [0.885, 0.915, 0.505])
def test_what_is_near_a_threshold_or_another_code_is_unsure(probability):
    assert told(probability) == COLUMNS


@pytest.mark.parametrize("probability", [0.87, 0.93, 0.7, 0.53])
def test_what_is_farther_is_sure(probability):
    assert told(probability) == []


def test_so_is_a_text_about_as_far_from_others_as_is_let_pass():
    # The logits are (0, ln 19), and 2.944 from a centre at the origin.
    for farthest, columns in ((2.95, COLUMNS), (4.0, []), (2.0, [])):
        assert told(0.95, centres=((0.0, 0.0),), farthest=farthest) == columns


def test_a_yes_or_no_is_unsure_about_one_half():
    assert told(0.51, multi_label=True) == COLUMNS and told(0.9, multi_label=True) == []
