"""From logits to spans by tags that are set by hand, and the tags that are repaired."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.models.guided_ner.config import Decoding
from engine.models.guided_ner.decode import by_window, repaired
from tests.models.guided_ner.conftest import looked, scattered, tiny_config, window_of

# A repaired span has a low score: it is that of a B where the tag is an I.
LOW = Decoding(score=1e-6)
# DRUG has the tags 1 and 2, SIGN 3 and 4.
SIGN = looked(红=3, 斑=4, 疹=4, 软=1, 膏=2)


@pytest.fixture(scope="module")
def network():
    return scattered(tiny_config("softmax"))


def spans(network, shown, logits, decoding=LOW, types=(0, 1)):
    found = by_window(network, shown, logits, types, decoding)
    return [[(span.type, span.first, span.last) for span in each] for each in found]


def test_the_runs_of_both_types_and_their_scores(network):
    shown = window_of("患红斑伴软膏")
    logits = SIGN(shown)
    assert spans(network, shown, logits) == [[(0, 4, 5), (1, 1, 2)]]
    assert spans(network, shown, logits, types=[1]) == [[(1, 1, 2)]]
    (drug, sign), *_ = by_window(network, shown, logits, (0, 1), LOW)
    # One logit of 8, that of O is 2 and three are 0; behind 斑 the tag is O.
    tagged = np.exp(8) / (np.exp(8) + np.exp(2) + 3)
    assert drug.score == pytest.approx(tagged, rel=1e-5)
    after = 1 - 1 / (np.exp(2) + 4)
    assert sign.score == pytest.approx(np.sqrt(tagged**2 * after), rel=1e-5)
    assert spans(network, shown, logits, Decoding(score=0.97)) == [[(0, 4, 5)]]


def test_an_inside_without_a_beginning_is_repaired_and_counted(network):
    # 疹 begins the text; after 膏, and after 斑 of the other type, nothing of SIGN is open.
    shown = window_of("疹斑患膏斑红斑")
    logits = SIGN(shown)
    assert spans(network, shown, logits) == [[(0, 3, 3), (1, 0, 1), (1, 4, 4), (1, 5, 6)]]
    assert repaired(network, shown, logits, (0, 1), 0.0) == {(0, 0, 1), (0, 3, 0), (0, 4, 1)}
    assert repaired(network, shown, logits, (0,), 0.0) == {(0, 3, 0)}


def test_no_span_crosses_the_parts_of_a_text(network):
    shown = window_of("患红斑疹", parts=np.array([0, 0, 0, 1]))
    logits = SIGN(shown)
    assert spans(network, shown, logits) == [[(1, 1, 2), (1, 3, 3)]]
    assert repaired(network, shown, logits, (0, 1), 0.0) == {(0, 3, 1)}


def test_a_window_that_begins_within_the_text_does_not_count_its_first_inside(network):
    # 疹 begins the second window, where nobody can tell what stands before it.
    shown = window_of("患者红斑疹疹斑患斑", size=6, overlap=4)
    assert [(window.start, window.is_first) for window in shown][:2] == [(0, True), (2, False)]
    later = next(window for window in shown if window.word[0] == 4) if len(shown) > 2 else None
    assert later is not None and not later.is_first
    assert repaired(network, [later], SIGN([later]), (0, 1), 0.0) == {(0, 8, 1)}
    alone = replace(later, is_first=True)
    assert repaired(network, [alone], SIGN([alone]), (0, 1), 0.0) == {(0, 4, 1), (0, 8, 1)}


def test_the_offset_of_no_mention_finds_more(network):
    shown = window_of("患红")
    logits = torch.zeros(1, 3, 5)
    logits[0, :, 0], logits[0, 1, 3] = 2.0, 1.5
    assert spans(network, shown, logits) == [[]]
    (found,) = by_window(network, shown, logits, (0, 1), Decoding(score=0.01, outside=1.0))[0]
    assert (found.type, found.first, found.outside) == (1, 1, 1.0)
    # The score is that of the logits themselves, without the offset.
    assert found.score == pytest.approx(np.exp(1.5) / (np.exp(2) + np.exp(1.5) + 3), rel=1e-5)


def test_spans_longer_than_the_longest_are_left_out(network):
    shown = window_of("红斑斑患红斑")
    assert spans(network, shown, SIGN(shown), Decoding(score=0.01, longest=2)) == [[(1, 4, 5)]]


def test_a_crf_gives_no_inside_that_would_need_a_repair():
    network = scattered(tiny_config("crf"))
    shown = window_of("疹斑患膏斑红斑")
    logits = SIGN(shown)
    assert not repaired(network, shown, logits, (0, 1), 0.0)
    for _, first, last in spans(network, shown, logits)[0]:
        assert 0 <= first <= last < 7
    # But the CRF does not know of the parts of a text.
    shown = window_of("患红斑疹", parts=np.array([0, 0, 0, 1]))
    assert repaired(network, shown, SIGN(shown), (0, 1), 0.0) == {(0, 3, 1)}
