"""Answers without training."""

import numpy as np

from engine.models.clear.zero_shot import directions
from engine.models.embedding import embed


def test_a_direction_is_the_difference_of_means_of_length_one():
    vectors = {"edema": [1, 0], "there is edema": [0, 1], "no edema": [-1, 0], "without edema": [-1, 0]}
    sides = ("{}", "there is {}"), ("no {}", "without {}")
    got = directions(["Edema"], lambda texts: np.array([vectors[text] for text in texts]), *sides)
    np.testing.assert_allclose(got, [[np.sqrt(0.5) + 1, np.sqrt(0.5)]])


def test_sentences_are_told_apart():
    labels = ["Pleural Effusion", "Pneumothorax"]
    ways = directions(labels, embed)
    scores = embed(["large effusion on the left", "no effusion", "small apical pneumothorax", "no pneumothorax"]) @ ways.T
    assert ways.shape == (2, 384)
    assert scores[0, 0] > scores[1, 0] and scores[2, 1] > scores[3, 1]
