"""The model of a fold: what it is trained on, what it is asked, and its answers."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.errors import ContractError
from engine.models.code_task import Task
from engine.models.columns import list_values
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.rationales.fold import SCORES, STATES, answers, learner, probabilities, write_texts
from engine.models.site_classifier.states import encode, key_of
from tests.models.conftest import TEXTS, coder, records, write_tiny


@pytest.fixture
def settings(tmp_path):
    """Three reports in two folds, of each a rationale but of the last, and an empty text."""
    base = coder(write_tiny(tmp_path / "base"), method="none")
    prepared = base.prepare(records(TEXTS))
    nothing = np.empty(0, np.int32)
    encode(base, prepared, tmp_path / STATES, [key_of(nothing)])
    names, report = ["a", "b", "c", "a#0", "b#0", "(empty)"], [None, None, None, 0, 1, None]
    ids = [*list_values(prepared["input_ids"])[:5], nothing]
    write_texts(tmp_path, names, ids, [0, 1, 0, 0, 1, -1], report, [0, 1, 1, 0, 1, -1])
    shape = replace(base.config, head="target", tasks=(Task("site", ("C18", "C34"), (2, 1)),))
    runtime = {"work": str(tmp_path), "threads": 0, "device": "cpu"}
    return {"model": shape.to_json(), "learn": asdict(LearnConfig(windows=4)), "size": 32, "runtime": runtime}


def test_a_model_learns_from_the_reports_of_the_other_folds_alone(settings):
    for fold, train, valid in ((0, ["b", "c"], ["a"]), (1, ["a"], ["b", "c"])):
        made = learner(fold, settings)
        names = np.array(made.examples.record_id)
        assert names[made.examples.train].tolist() == train and names[made.examples.valid].tolist() == valid
        assert not any(name.startswith("encoder.") for name in made.parameters())


def test_it_is_asked_about_the_rationales_of_its_own_fold(settings):
    made = learner(1, settings)
    found = answers(made, [{"valid_accuracy_site": 0.25}], 1, settings)
    assert found.schema.equals(SCORES)
    (row,) = found.to_pylist()
    assert (row["record_id"], row["origin"], row["label"], row["fold"], row["accuracy"]) == ("b#0", "b", "C34", 1, 0.25)
    whole, alone, empty = (probabilities(made, [number])[0] for number in (1, 4, 5))
    assert [row[name] for name in ("report_prob", "rationale_prob", "empty_prob")] == [whole[1], alone[1], empty[1]]


def test_states_that_are_not_there_are_a_bug(settings, tmp_path):
    for part in (tmp_path / STATES).iterdir():
        part.rename(tmp_path / part.name)
    with pytest.raises(ContractError, match="not there"):
        learner(0, settings)


def test_a_report_that_several_rationales_are_of_is_answered_for_each():
    asked = []

    def batches(members):
        asked.extend(members)
        yield None, members

    logits = {1: [0.0, 0.0], 3: [float(np.log(3)), 0.0]}
    learner = SimpleNamespace(
        network=SimpleNamespace(config=SimpleNamespace(tasks=(SimpleNamespace(name="site", labels=("C18", "C34")),))),
        batches=batches,
        pooled=lambda batch, rows: SimpleNamespace(logits={"site": torch.tensor([logits[row] for row in rows])}),
    )
    found = probabilities(learner, np.array([3, 1, 3]))
    assert found == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5], [0.75, 0.25]]))
    assert sorted(asked) == [1, 3]
