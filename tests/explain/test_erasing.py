from itertools import permutations

import numpy as np
import pytest
import torch

from engine.explain.erasing import samples_of
from engine.explain.explain import explain, work_for
from engine.explain.settings import Settings
from engine.text.units import Units
from tests.explain.toys import Linear, complete, docs

FIRST = torch.tensor([0])


def scores(model, batch, method, **settings):
    return explain(model, batch, FIRST, method, Settings(**settings))[0].score


def test_a_linear_model_is_explained_by_its_values():
    model, batch = Linear([1, 2, -3], bias=5), docs([1, 2, 3, 2])
    assert scores(model, batch, "occlusion") == pytest.approx([1, 2, -3, 2])
    assert scores(model, batch, "kernel_shap") == pytest.approx([1, 2, -3, 2])
    assert scores(model, batch, "lime") == pytest.approx([1, 2, -3, 2], abs=0.01)


def test_a_product_of_three():
    model, batch = Linear([2, 3, 4], product=True), docs([1, 2, 3])
    assert scores(model, batch, "occlusion") == pytest.approx([24, 24, 24])
    assert scores(model, batch, "kernel_shap") == pytest.approx([8, 8, 8])


def test_occlusion_agrees_with_captum(transformer):
    from captum.attr import FeatureAblation

    batch = docs([5, 6, 7, 8, 9])

    def forward(kept):
        return transformer.score(transformer.erase(batch, kept[0].bool().numpy()), FIRST)

    expected = FeatureAblation(forward).attribute(torch.ones(1, 5))[0]
    assert np.allclose(scores(transformer, batch, "occlusion"), expected.numpy(), atol=1e-5)


def test_all_coalitions_give_the_shapley_values_themselves(transformer):
    batch = docs([5, 6, 7, 8])
    work = work_for(transformer, batch, FIRST)
    expected = np.zeros(4)
    for order in permutations(range(4)):
        kept = np.zeros(4, dtype=bool)
        before = work.erased([(0, kept.copy())])[0]
        for unit in order:
            kept[unit] = True
            after = work.erased([(0, kept.copy())])[0]
            expected[unit] += (after - before) / 24
            before = after
    assert np.allclose(scores(transformer, batch, "kernel_shap"), expected, atol=1e-4)


@pytest.mark.parametrize("ids", [[5], [5, 6], list(range(5, 25))])
def test_shapley_values_add_up(transformer, ids):
    (found,) = explain(transformer, docs(ids), FIRST, "kernel_shap")
    assert found.score.sum() == pytest.approx(found.target_score - found.blank_score, abs=1e-9)
    assert complete(found)


def test_sampled_coalitions_find_a_linear_model():
    values = np.linspace(-2, 3, 20)
    assert scores(Linear(values), docs(range(1, 21)), "kernel_shap") == pytest.approx(values, abs=1e-4)


def test_samples_are_of_the_record_and_the_seed():
    model = Linear(np.linspace(-2, 3, 12), product=True)
    ids = range(1, 13)
    settings = {"samples": 40}
    first, again = (scores(model, docs(ids, names=["a"]), "lime", **settings) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, scores(model, docs(ids, names=["b"]), "lime", **settings))
    assert not np.array_equal(first, scores(model, docs(ids, names=["a"]), "lime", seed=1, **settings))


def test_units_of_several_tokens_are_erased_whole():
    half = Units("sentence", np.array([0, 10]), np.array([9, 19]), np.array([0, 0, 1, 1]))
    batch = docs([1, 2, 3, 2])
    for method in ("occlusion", "kernel_shap", "gradient_x_input"):
        (found,) = explain(Linear([1, 2, -3]), batch, FIRST, method, units=[half])
        assert found.score == pytest.approx([3, -1])
        assert found.unit_kind == "sentence"


def test_what_belongs_to_no_unit_is_never_erased():
    partly = Units("word", np.array([0]), np.array([4]), np.array([0, -1]))
    for method in ("occlusion", "kernel_shap", "gradient_x_input", "integrated_gradients"):
        (found,) = explain(Linear([2, 3], product=True), docs([1, 2]), FIRST, method, units=[partly])
        assert found.score == pytest.approx([6])
        assert (found.target_score, found.blank_score) == pytest.approx((6, 0))


def test_samples_grow_with_the_units():
    work = work_for(Linear([1]), docs([1] * 40, [1]), torch.tensor([0, 0]))
    assert [samples_of(work, 0), samples_of(work, 1)] == [160, 64]
