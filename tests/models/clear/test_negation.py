"""How well an embedder tells presence from absence."""

from functools import partial

import numpy as np

from engine.models.clear.negation import ABSENT, ENOUGH, PRESENT, negation_auc
from engine.models.embedding import embed


def by_word(texts):
    """Tells presence from absence by the wording, in one number of two."""
    absent = [any(wording.replace("{}", "edema") == text for wording in ABSENT) for text in texts]
    return np.array([[-1.0, 0.5] if each else [1.0, 0.5] for each in absent])


def test_a_clear_embedder_has_one_a_blind_one_half():
    assert negation_auc(by_word, ["edema"]) == 1.0
    assert negation_auc(lambda texts: np.ones((len(texts), 2)), ["edema"]) == 0.5


def test_halves_are_even_and_no_wording_is_on_both_sides():
    assert len(PRESENT) == len(ABSENT) and len(PRESENT) % 2 == 0
    assert not set(PRESENT) & set(ABSENT)


def test_the_embedded_embedder_is_good_enough_and_a_random_one_is_not():
    assert negation_auc(embed) > 0.9
    assert negation_auc(partial(embed, name="tiny:bert")) < ENOUGH
