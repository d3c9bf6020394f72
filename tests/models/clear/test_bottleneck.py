"""Bottlenecks of concepts that the data choose."""

from itertools import chain

import numpy as np
import pytest

from engine.models.clear import bottleneck
from engine.models.clear.bottleneck import choose, features
from engine.models.clear.probe import fit_probe

TEXTS = ["wide heart", "very wide heart", "cardiomegaly", "small heart", "clear lungs"]


def unit(rows):
    return np.array(rows, float) / np.linalg.norm(rows, axis=1, keepdims=True)


def names(text, label):
    return label.lower() in text


def test_the_choice_by_hand():
    # Cosines with the probe: 0.8, 0.83, 1, -0.8, 0.6. The third names the label, the first is like the second.
    llm = unit([[0.8, 0.6, 0], [0.83, 0.5578, 0], [1, 0, 0], [-0.8, 0, 0.6], [0.6, 0, -0.8]])
    assert choose([[2.0, 0, 0]], llm, TEXTS, ["Cardiomegaly"], names) == [[1, 3, 4]]
    # Without the label's name the third comes first, and nothing is left that is like it.
    assert choose([[2.0, 0, 0]], llm, TEXTS, ["Effusion"], names) == [[2, 1, 3, 4]]


def test_there_are_eight_for_and_six_against():
    rng = np.random.default_rng(0)
    llm = unit(rng.standard_normal((300, 40)))
    weights = rng.standard_normal((2, 40))
    for chosen, weight in zip(choose(weights, llm.astype(np.float16), ["x"] * 300, ["A", "B"], names), weights, strict=True):
        aligned = llm[chosen] @ weight
        assert (aligned > 0).sum() == bottleneck.FOR and (aligned < 0).sum() == bottleneck.AGAINST
        assert (np.diff(np.abs(aligned)) < 1e-2).all()
        near = llm[chosen] @ llm[chosen].T - np.eye(14)
        assert near.max() <= bottleneck.NEAREST + 1e-3


def test_features_by_hand():
    v, t, llm = [[0.6, 0.8]], np.eye(2), [[1.0, 0, 0], [0, 0, 1.0]]
    np.testing.assert_allclose(features(v, t), [[0.6, 0.8]])
    np.testing.assert_allclose(features(v, t, llm), [[0.6, 0, 0.8]])
    np.testing.assert_allclose(features([[0, 2.0]], t, llm), [[0, 0, 1]])


@pytest.mark.parametrize("improved", [False, True])
def test_both_bottlenecks_learn_from_concepts_that_were_chosen(improved):
    rng = np.random.default_rng(5)
    t, llm = unit(rng.standard_normal((80, 10))), unit(rng.standard_normal((80, 12)))
    v = unit(rng.standard_normal((500, 10)))
    right = (v @ t[:2].T > 0).astype(float)
    raw = v @ t.T @ llm
    z = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    probe = fit_probe(z[:300], right[:300], z[300:400], right[300:400], ["A", "B"])
    chosen = sorted({*chain(*choose(probe.weights, llm, ["x"] * 80, ["A", "B"], names))})
    x = features(v, t[chosen], llm[chosen] if improved else None)
    head = fit_probe(x[:300], right[:300], x[300:400], right[300:400], ["A", "B"])
    assert (head.areas > 0.9).all()
    weights = llm[chosen] @ head.weights.T if improved else head.weights.T
    assert weights.shape == (len(chosen), 2)
    if improved:
        # logit - intercept is the sum of the concepts' parts.
        cosines = features(v, t[chosen])
        parts = cosines @ weights / np.linalg.norm(cosines @ llm[chosen], axis=1, keepdims=True)
        np.testing.assert_allclose(parts + head.intercepts, head.logits(x), atol=1e-9)
