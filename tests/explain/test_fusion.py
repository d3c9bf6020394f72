import numpy as np
import pytest
import torch

from engine.explain.explain import explain
from engine.explain.fusion import fusion_weights
from engine.explain.settings import Settings
from tests.explain.toys import Linear, docs

FIRST = torch.tensor([0])


def test_weights_by_hand():
    says = [{"stability": 1.0, "boundary": 0.0, "faithfulness": 0.5}, {"stability": 0.5, "boundary": 0.25, "faithfulness": 0.0}]
    first = np.exp(1.25 / 0.25) / (np.exp(1.25 / 0.25) + np.exp(0.75 / 0.25))
    assert fusion_weights(says, 1.0, 1.0, 0.5, 0.25) == pytest.approx([first, 1 - first])


def test_one_method_alone_is_itself_where_nothing_is_perturbed():
    (found,) = explain(Linear([1, 2, -5]), docs([1, 2, 3]), FIRST, "fused", Settings(fuse=("occlusion",), perturbations=0))
    assert found.score == pytest.approx([1 / 8, 2 / 8, -5 / 8])
    assert found.fusion[0]["weight"] == 1.0 and found.stability.tolist() == [1, 1, 1]
    assert found.score_kind == "share" and found.target_score == pytest.approx(-2)


def test_the_stable_and_faithful_method_weighs_more():
    model, batch = Linear([3, 0.1, 0.2, 0.3, 0.4, 0.5]), docs([1, 2, 3, 4, 5, 6, 2, 3, 4, 5])
    settings = Settings(fuse=("random", "occlusion"), fuse_weights=(0.0, 0.0, 1.0))
    (found,) = explain(model, batch, FIRST, "fused", settings)
    random, occlusion = found.fusion
    assert (random["method"], occlusion["method"]) == ("random", "occlusion")
    assert occlusion["faithfulness"] > random["faithfulness"] and occlusion["weight"] > random["weight"]
    assert random["weight"] + occlusion["weight"] == pytest.approx(1)
    assert int(np.argmax(found.weight)) == 0


def test_a_method_without_an_answer_has_no_say():
    model = Linear([2, 3])
    model.own = lambda method, batch, targets: torch.zeros(int(model.sizes(batch).sum()))
    (found,) = explain(model, docs([1, 2]), FIRST, "fused", Settings(fuse=("uniform", "occlusion"), perturbations=0))
    assert [part["method"] for part in found.fusion] == ["occlusion"]
    (found,) = explain(model, docs([1, 2]), FIRST, "fused", Settings(fuse=("uniform",), perturbations=0))
    assert found.status == "degenerate"
