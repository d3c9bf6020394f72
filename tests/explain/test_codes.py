import numpy as np
import pytest
import torch

from engine.explain.codes import answers, log_odds, target_probability, target_score


def test_log_odds_by_hand():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    expected = 3.0 - np.log(np.exp(1.0) + np.exp(2.0))
    assert log_odds(logits, torch.tensor([2])).item() == pytest.approx(expected, abs=1e-6)


def test_a_multi_label_answer_is_explained_by_its_chosen_labels():
    assert target_score(torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[1.0, 0.0, 1.0]]), True).item() == 4.0


def test_probabilities_at_a_temperature_and_what_is_answered():
    logits = torch.tensor([[0.0, 2.0]])
    assert target_probability(logits, torch.tensor([1]), False, 2.0).item() == pytest.approx(1 / (1 + np.exp(-1)))
    both = target_probability(logits, torch.tensor([[1.0, 1.0]]), True, 1.0)
    assert both.item() == pytest.approx(0.5)
    assert answers(logits, False).tolist() == [1] and answers(logits, True).tolist() == [[0.0, 1.0]]
