"""The card agrees with the figures and the checkpoint, and the shipped cards are those that the code writes."""

import json
import re

import pytest

from engine.models.code_decide import auto_codes
from engine.models.site_classifier import Options
from engine.models.site_classifier.card import model_card
from engine.models.site_classifier.checkpoint import read_checkpoint


@pytest.mark.parametrize("head", [None, "dpla"])
def test_the_shipped_cards_agree_with_their_checkpoints(head):
    checkpoint = read_checkpoint("shipped", head)
    folder = checkpoint.folder / (checkpoint.part or "")
    card, figures = (folder / "README.md").read_text(), json.loads((folder / "figures.json").read_text())
    command = re.search(r"\n    (python -m .*)\n", card)[1]
    assert card.startswith(model_card(figures, checkpoint.config, command).rstrip())
    for task in checkpoint.config.tasks:
        codes = auto_codes(task, checkpoint.calibration[task.name], Options())
        assert figures["tasks"][task.name]["auto_codes"] == codes
        chapter = card.split(f"\n## {task.name} ")[1].split("\n## ")[0]
        count = f"{len(codes)} of the {len(task.labels)}" if codes else f"None of the {len(task.labels)}"
        assert f"**{count} codes can be `auto`" in chapter
        assert re.findall(r"C\d\d|\d{4}/\d", chapter) == codes
