"""The model card of an extractor."""

from dataclasses import asdict

import pytest

from engine.models.prompt_mrc.card import model_card
from engine.models.prompt_mrc.config import Decoding, MrcConfig
from engine.models.prompt_mrc.templates import complete_config

MODEL = {"encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 2, "window": 48, "overlap": 16, "prompt_room": 64}
MARKS = ("snapped", "unread", "overlapping", "coordinated")


@pytest.mark.parametrize(
    ("mode", "own", "prompt", "types"),
    [
        ("hard", {}, "a template (definition) in front", None),
        ("hard", {"Disease": "what"}, "a question of its own or a template (definition) in front", "Disease"),
        ("hybrid", {"Disease": "what", "Cancer": "which"}, "a question of its own and 6 soft vectors in", "Disease and Cancer"),
        ("name", {}, "the type's name in front", None),
        ("name", {"Cancer": "which"}, "the type's name or a question of its own in front", "Cancer"),
        ("soft", {}, "6 soft vectors in front", None),
        ("tagger", {}, "tags for every type, no prompt in front", None),
    ],
)
def test_the_card_names_the_types_whose_question_is_not_built_in(mode, own, prompt, types):
    config = complete_config(MrcConfig(types=("Disease", "Cancer"), **MODEL, mode=mode), own)
    figures = {"parameters": {"trained": 1, "total": 2}, "examples": {}, "test": {}, "calibration": {"ece": None}}
    figures |= {"in_pieces": {"lost": 0, "mentions": 0}, "marked": dict.fromkeys(MARKS, 0)}
    figures |= {"broken": {"texts": 9, "count": 0, "reasons": {}}}
    card = model_card(figures | {"decoding": asdict(Decoding())}, config, "a command")
    assert f"mode {mode}: {prompt}" in card
    assert ("question is the training's own" in card) == (types is not None)
    assert types is None or f"For {types} the question is the training's own" in card
