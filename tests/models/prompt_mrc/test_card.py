"""The model card of an extractor."""

import pytest

from engine.models.prompt_mrc.build import completed
from engine.models.prompt_mrc.card import model_card
from engine.models.prompt_mrc.config import Decoding, MrcConfig

MODEL = {"encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 2, "window": 48, "overlap": 16, "prompt_room": 64}
LEFT = ("snapped", "unread", "overlapping", "coordinated")


@pytest.mark.parametrize(
    ("mode", "own", "before", "whose"),
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
def test_the_card_tells_templates_from_questions_of_the_trainings_own(mode, own, before, whose):
    config = completed(MrcConfig(types=("Disease", "Cancer"), **MODEL, mode=mode), own)
    figures = {"parameters": {"trained": 1, "total": 2}, "examples": {}, "test": {}, "calibration": {"ece": None}}
    figures |= {"in_pieces": {"lost": 0, "mentions": 0}, "marked": dict.fromkeys(LEFT, 0)}
    figures |= {"broken": {"texts": 9, "count": 0, "reasons": {}}}
    card = model_card(figures | {"decoding": Decoding().to_json()}, config, "a command")
    assert f"mode {mode}: {before}" in card
    assert ("question is the training's own" in card) == (whose is not None)
    assert whose is None or f"For {whose} the question is the training's own" in card
