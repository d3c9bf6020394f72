"""The card says what the figures and the checkpoint say; the cards that come along are as it would write them."""

import json
import re

import pytest

from engine.models.code_decide import auto_codes
from engine.models.site_classifier import Options
from engine.models.site_classifier.card import model_card
from engine.models.site_classifier.checkpoint import read_checkpoint


@pytest.mark.parametrize("head", [None, "dpla"])
def test_the_cards_that_come_along_say_what_their_checkpoints_say(head):
    found = read_checkpoint("shipped", head)
    folder = found.folder / (found.part or "")
    card, figures = (folder / "README.md").read_text(), json.loads((folder / "figures.json").read_text())
    command = re.search(r"\n    (python -m .*)\n", card)[1]
    assert card.startswith(model_card(figures, found.config, command).rstrip())
    for task in found.config.tasks:
        codes = auto_codes(task, found.calibration[task.name], Options())
        assert figures["tasks"][task.name]["auto_codes"] == codes
        chapter = card.split(f"\n## {task.name} ")[1].split("\n## ")[0]
        count = f"{len(codes)} of the {len(task.labels)}" if codes else f"None of the {len(task.labels)}"
        assert f"**{count} codes can be `auto`" in chapter
        assert re.findall(r"C\d\d|\d{4}/\d", chapter) == codes
