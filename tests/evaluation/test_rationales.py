"""Evidence of a table against marked words."""

import pytest

from engine.errors import RowError
from engine.evaluation.rationales import MEASURES, evidence_agreement, unit_weights

TEXT = "left breast ductal carcinoma seen"  # words at 0-4, 5-11, 12-18, 19-28, 29-33


def span(start, end, weight=1.0):
    return {"start": start, "end": end, "score": weight, "weight": weight}


def test_spans_become_weights_of_words():
    # A span over 2-7 has two characters of each of the first two words; one on a blank touches none.
    weights = unit_weights([0, 5, 12], [4, 11, 18], [(2, 7, 0.5), (12, 18, -0.5), (4, 5, 9.0)])
    assert weights.tolist() == [0.25, 0.25, 0.5]
    assert unit_weights([0], [4], []).tolist() == [0.0]


def test_by_hand():
    # Weights .6 breast, .2 ductal, .2 carcinoma, after sharing .4 among 6 and 9 of 15 characters: .16 and .24. Marked: breast
    # and seen. Top two: breast and carcinoma, one of two; mass .6; lift .6 / (2 / 5); precision 1 at breast, 2/5 at seen.
    found = evidence_agreement(TEXT, [span(5, 11, 0.3), span(12, 28, 0.2)], [span(5, 11), span(30, 32)], "r")
    assert found["cov_topk"] == 0.5
    assert found["cov_mass"] == pytest.approx(0.6)
    assert found["cov_lift"] == pytest.approx(1.5)
    assert found["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 5)


def test_the_control_is_near_chance_and_the_same_each_time():
    text = "word " * 400
    marked = [span(0, 500)]
    found = evidence_agreement(text, [span(0, 499)], marked, "r", draws=20)
    assert found == evidence_agreement(text, [span(0, 499)], marked, "r", draws=20)
    assert [found[name] for name in MEASURES] == pytest.approx([1.0, 1.0, 4.0, 1.0])
    assert found["random_cov_lift"] == pytest.approx(1.0, abs=0.1)
    assert found["random_cov_topk"] == pytest.approx(0.25, abs=0.03)


def test_without_evidence_or_marked_words_there_is_nothing_to_say():
    assert evidence_agreement(TEXT, [], [span(0, 4)], "r") is None
    assert evidence_agreement(TEXT, [span(0, 4)], [], "r") is None
    assert evidence_agreement("", [], [], "r") is None


def test_a_span_outside_the_text_is_of_another_text():
    with pytest.raises(RowError, match="33 characters"):
        evidence_agreement(TEXT, [span(0, 4)], [span(30, 40)], "r")
