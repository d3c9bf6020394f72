"""Linear probes, and labels that cannot have one."""

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.models.clear.probe import STRENGTHS, auc, fit_probe


@pytest.fixture
def data():
    """Two labels that two of six directions decide; a third without positives in train, a fourth in valid."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 6))
    right = np.stack([x[:, 0] + 0.3 * rng.standard_normal(400) > 0, x[:, 1] > 0.5, x[:, 2] > 0, x[:, 3] > 0], axis=1)
    right = right.astype(float)
    right[:300, 2], right[300:, 3] = 0, 1
    return x, right


def test_areas_by_hand():
    assert auc([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.5]) == 0.75
    assert auc([1, np.nan, 0], [0.9, 1.0, 0.1]) == 1.0
    assert auc([1, 1], [0, 1]) is None and auc([np.nan], [0]) is None


def test_labels_are_learned_and_those_with_one_class_are_listed(data):
    x, right = data
    probe = fit_probe(x[:300], right[:300], x[300:], right[300:], ["A", "B", "C", "D"])
    assert probe.labels == ("A", "B")
    assert probe.skipped == {"C": "not both classes in train", "D": "not both classes in valid"}
    assert probe.weights.shape == (2, 6) and probe.intercepts.shape == (2,)
    assert np.abs(probe.weights).argmax(1).tolist() == [0, 1] and (probe.areas > 0.9).all()
    np.testing.assert_allclose(probe.areas, [auc(right[300:, k], probe.logits(x[300:])[:, k]) for k in (0, 1)])
    again = fit_probe(x[:300], right[:300], x[300:], right[300:], ["A", "B", "C", "D"])
    assert (again.weights == probe.weights).all()


def test_unknown_answers_train_nothing(data):
    x, right = data
    spoilt, known = right[:300, :1].copy(), np.arange(300) % 3 > 0
    spoilt[~known] = np.nan
    probe = fit_probe(x[:300], spoilt, x[300:], right[300:, :1], ["A"])
    same = fit_probe(x[:300][known], right[:300, :1][known], x[300:], right[300:, :1], ["A"])
    assert (probe.weights == same.weights).all()


def test_of_equal_areas_the_smallest_weights_are_taken():
    x, right = np.array([[-1.0], [-2.0], [1.0], [2.0]]), np.array([[0.0], [0.0], [1.0], [1.0]])
    assert fit_probe(x, right, x, right, ["A"]).strengths.tolist() == [STRENGTHS[0]]


def test_no_label_at_all_is_an_error():
    with pytest.raises(ConfigError, match="no label has both classes"):
        fit_probe(np.ones((3, 1)), np.ones((3, 1)), np.ones((3, 1)), np.ones((3, 1)), ["A"])
