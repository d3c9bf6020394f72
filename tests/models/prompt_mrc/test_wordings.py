"""What is asked for in training, and in which words."""

from collections import Counter

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.wordings import NOTHING, Wordings, wordings

CONFIG = MrcConfig(types=("Disease", "Cancer"), queries=("diseases", "cancers"), encoder="tiny:bert")


@pytest.fixture(scope="module")
def asked():
    return Wordings.of(CONFIG, ("Device", "Lunar_rock"), load_tokenizer(encoder_folder(CONFIG.encoder)))


def test_a_type_has_its_built_in_texts_and_its_names_in_patterns():
    of_device = wordings("Device", "en")
    assert "Which implants are named?" in of_device and "Find every mention of devices and implants." in of_device
    assert "Which Lunar rock are named?" in wordings("Lunar_rock", "en")
    # A kind of made-up things has names in its own list, and a type may have several.
    assert "Find family members." in wordings("Relative", "en")
    assert {"tumours", "neoplasms"} <= set(wordings("Cancer", "en"))


def test_types_are_numbered_after_those_of_the_model(asked):
    assert asked.known == 2 and set(asked.pieces) == {0, 1, 2, 3, NOTHING}
    assert all(asked.pieces.values()) and asked.longest <= CONFIG.prompt_room - CONFIG.soft - 2


def test_most_prompts_of_the_models_types_are_their_queries(asked):
    prompts = Counter(asked.prompt(1, np.random.default_rng(seed)) for seed in range(400))
    assert 240 < prompts[1, None] < 320
    others = Counter(number for (number, words), count in prompts.items() for _ in range(count) if words is not None)
    # Some have the type's own soft vectors, others those of a new type.
    assert set(others) == {1, asked.known} and min(others.values()) > 20


@pytest.mark.parametrize("kind", [2, 3, NOTHING])
def test_other_prompts_have_the_soft_vectors_of_a_new_type(asked, kind):
    for seed in range(20):
        number, words = asked.prompt(kind, np.random.default_rng(seed))
        assert number == asked.known and words in asked.pieces[kind]


def test_a_window_is_asked_for_further_types_that_it_has_and_that_it_has_not(asked):
    drawn = [asked.drawn({2}, {2, 3}, False, np.random.default_rng(seed)) for seed in range(400)]
    counts = Counter(kind for kinds in drawn for kind in kinds)
    assert 160 < counts[2] < 240 and 50 < counts[3] < 110 and 8 < counts[NOTHING] < 50
    assert asked.drawn(set(), set(), False, np.random.default_rng(0)) in ([], [NOTHING])
    # Without a type of the model it is asked for more of them.
    assert asked.drawn({2}, {2, 3}, True, np.random.default_rng(0)) == [2, 3]
