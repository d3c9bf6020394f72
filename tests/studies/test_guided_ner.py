"""Marked entities as what is explained, and how far explanations and model look at their edges, on a hardly trained tagger."""

import pytest

from engine.studies.explaining import Text
from engine.studies.guided_ner.marked import MOST, MarkedTexts
from engine.studies.run import Place, Runner
from engine.studies.study import study_of
from tests.models.guided_ner.conftest import documents, small, write_corpus

VALUES = {
    "question": "?",
    "system": "guided_ner",
    "corpora": {"made": "made.parquet"},
    "measure": ["edges"],
    "rounds": 20,
    "base": {
        "learn.words_epochs": 0.2,
        "learn.rounds": 0,
        "train.epochs": 0.5,
        "settle": False,
        "precision": "fp32",
        "model.head": "crf",
        "model.window": 24,
        "model.overlap": 8,
        "explain.texts": "marked",
        "explain.task": "",
        "explain.sample": 5,
    },
    "arms": {"gxi": {"explain.method": "gradient_x_input"}, "occlusion": {"explain.method": "occlusion"}, "none": {}},
}


def test_the_targets_are_marked_entities_evenly_spaced():
    marks = {"B": [(8, 9), (0, 2), (12, 13)], "A": [(4, 6), (10, 11)]}
    texts = MarkedTexts([Text("r0", "r0", "x" * 20, marks=marks), Text("r1", "r1", "x", marks={"A": [(0, 1)]})])
    found = [(target.text, target.label, target.place) for target in texts.targets(None, None)]
    # Of five in their order the second and the fourth.
    assert MOST == 2 and found == [(0, "A", (4, 6)), (0, "A", (10, 11)), (1, "A", (0, 1))]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder, monkey = tmp_path_factory.mktemp("edges"), pytest.MonkeyPatch()
    monkey.setattr("engine.models.guided_ner.recipe.small_encoder", small)
    write_corpus(folder / "made.parquet", documents(60))
    study = study_of("toy/edges", VALUES)
    place = Place(str(folder), folder / "out", folder / "models", 1, recorded=False)
    found = Runner(study, place, print).run().to_pylist()
    monkey.undo()
    return {(row["arm"], row["metric"]): row for row in found}


def test_every_arm_with_a_method_has_the_figures_of_the_same_entities(rows):
    names = ("boundary_mass", "boundary_lift", "boundary_faith", "shift_margin")
    assert {metric for arm, metric in rows if arm == "gxi"} >= set(names) and not [key for key in rows if key[0] == "none"]
    for name in names:
        # Five texts, of which two have two entities.
        assert rows["gxi", name]["n"] == rows["occlusion", name]["n"] == 7
    assert 0 < rows["gxi", "boundary_mass"]["value"] < 1 and rows["gxi", "boundary_lift"]["value"] > 0
    # The margin is the model's, whatever the method.
    assert rows["gxi", "shift_margin"]["value"] == pytest.approx(rows["occlusion", "shift_margin"]["value"], abs=1e-5)
    assert rows["occlusion", "boundary_mass"]["value"] != pytest.approx(rows["gxi", "boundary_mass"]["value"])
