"""Decisions of a system of codes from its logits; with a network it is in tests/test_new_system.py."""

import numpy as np
import pytest

from engine.models.code_system import CodeOptions, CodeSystem, probabilities


def test_probabilities_at_a_temperature():
    logits = np.array([[0.0, np.log(3.0)]], np.float32)
    assert probabilities(logits, 1.0).tolist() == [pytest.approx([0.25, 0.75])]
    assert probabilities(2 * logits, 2.0).tolist() == [pytest.approx([0.25, 0.75])]
    assert probabilities(np.zeros((0, 0), np.float32), 1.0).shape == (0, 0)


class Settled(CodeSystem):
    def __init__(self, cut, **thresholds):
        self.options = CodeOptions(thresholds=thresholds)
        self.config = type("Config", (), {"labels": {"site": ("A", "B")}})
        self.checkpoint = type("Checkpoint", (), {"decisions": {"site": {"temperature": 1.0, "threshold": cut}}})


@pytest.mark.parametrize(
    ("system", "reasons"),
    [
        (Settled(0.7), []),
        (Settled(0.8), ["low_confidence"]),
        (Settled(1.01), ["no_threshold"]),
        (Settled(1.01, site=0.7), []),
        (Settled(0.7, site=0.8), ["low_confidence"]),
    ],
)
def test_a_code_is_sure_from_its_threshold(system, reasons):
    row = system._answer("site", ("A", "B"), np.array([0.25, 0.75]))
    assert (row["site_code"], row["site_prob"], row["site_reasons"]) == ("B", 0.75, reasons)
    assert row["site_decision"] == ("review" if reasons else "auto")
    assert [each["code"] for each in row["site_top"]] == ["B", "A"]
    assert system.auto() == {"site": () if reasons == ["no_threshold"] else ("A", "B")}
