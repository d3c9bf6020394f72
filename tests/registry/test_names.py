import json
from pathlib import Path

import pytest

import engine.models.site_classifier as site_classifier
from engine.registry import code_name

SHIPPED = Path(site_classifier.__file__).parent / "shipped"


@pytest.mark.parametrize(
    ("task", "code", "name"),
    [
        ("site", "C50", "breast"),
        ("histology", "8500/3", "invasive ductal carcinoma"),
        ("site", "C18;C50", "colon; breast"),
        ("site", "C18;C99", None),
        ("site", "8500/3", None),
        ("histology", "8247/3", None),
        ("grade", "C50", None),
        ("site", "", None),
        ("site", None, None),
    ],
)
def test_a_code_has_the_name_of_its_task_or_none(task, code, name):
    assert code_name(task, code) == name


def test_every_code_of_the_shipped_model_has_a_name():
    tasks = json.loads((SHIPPED / "labels.json").read_text(encoding="utf-8"))["tasks"]
    assert {task["name"] for task in tasks} == {"site", "histology"}
    assert [code for task in tasks for code in task["labels"] if code_name(task["name"], code) is None] == []
