import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.explain.explain import explain
from engine.explain.settings import Settings
from tests.explain.toys import Linear, complete, docs

FIRST = torch.tensor([0])


def scores(model, batch, method, targets=FIRST, **settings):
    return [found.score for found in explain(model, batch, targets, method, Settings(**settings))]


def test_a_linear_model_is_explained_by_its_values():
    model, batch = Linear([1, 2, -3], bias=5), docs([1, 2, 3, 2])
    for method in ("gradient_x_input", "integrated_gradients"):
        (found,) = explain(model, batch, FIRST, method)
        assert found.score == pytest.approx([1, 2, -3, 2])
        assert (found.target_score, found.blank_score) == pytest.approx((7, 5))
        assert found.residual == pytest.approx(0, abs=1e-6)
        assert complete(found)


def test_a_product_of_three():
    model, batch = Linear([2, 3, 4], product=True), docs([1, 2, 3])
    assert scores(model, batch, "gradient_x_input")[0] == pytest.approx([24, 24, 24])
    assert scores(model, batch, "integrated_gradients", steps=3)[0] == pytest.approx([8, 8, 8])
    assert scores(model, batch, "grad_l2")[0] == pytest.approx([12, 8, 6])
    (found,) = explain(model, batch, FIRST, "gradient_x_input")
    assert found.residual == pytest.approx(72 - 24)
    assert not complete(found)


def test_a_zero_baseline_explains_the_blank_too():
    found = scores(Linear([2, 3]), docs([1, 2]), "gradient_x_input", baseline="zero")
    assert found[0] == pytest.approx([2, 3])
    model = Linear([2, 3])
    model.embedding[0, 0] = 1.0
    assert scores(model, docs([1, 2]), "gradient_x_input", baseline="mask")[0] == pytest.approx([1, 2])
    assert scores(model, docs([1, 2]), "gradient_x_input", baseline="zero")[0] == pytest.approx([2, 3])


def test_the_target_decides_the_sign():
    model, batch = Linear([1, 2]), docs([1, 2], [2, 2])
    first, second = scores(model, batch, "integrated_gradients", torch.tensor([0, 1]))
    assert first == pytest.approx([1, 2])
    assert second == pytest.approx([-2, -2])


def test_steps_are_cut_into_passes_that_bound_memory():
    seen = []
    model, batch = Linear([2, 3, 4], product=True), docs([1, 2, 3])
    plain = model.values
    model.values = lambda rows, targets: (seen.append(sum(map(len, rows))), plain(rows, targets))[1]
    assert scores(model, batch, "integrated_gradients", steps=7, tokens_per_pass=6)[0] == pytest.approx([8, 8, 8])
    assert max(seen) == 6
    assert len(seen) == 4 + 2


def test_integrated_gradients_are_complete_on_a_transformer(transformer):
    batch = docs([5, 6, 7, 8], range(20, 29))
    for found in explain(transformer, batch, torch.tensor([0, 2]), "integrated_gradients", Settings(steps=64)):
        assert abs(found.residual) < 1e-3 * abs(found.target_score - found.blank_score)


def captum_forward(encoder, head):
    return lambda ids: encoder(input_ids=ids).last_hidden_state.mean(1) @ head


@pytest.fixture(scope="module")
def plain(transformer):
    """The tiny encoder as captum takes it, with the weights that the toy sees."""
    encoder = load_encoder("tiny:bert", torch.float32, "eager")
    encoder.get_input_embeddings().weight.data.copy_(transformer.embedding)
    return encoder


def test_integrated_gradients_agree_with_captum(transformer, plain):
    from captum.attr import LayerIntegratedGradients

    ids = torch.arange(40, 47)[None]
    method = LayerIntegratedGradients(captum_forward(plain, transformer.head[1]), plain.embeddings.word_embeddings)
    expected, delta = method.attribute(ids, baselines=torch.zeros_like(ids), n_steps=20, return_convergence_delta=True)
    (found,) = explain(transformer, docs(ids[0]), torch.tensor([1]), "integrated_gradients", Settings(steps=20))
    assert np.allclose(found.score, expected.sum(-1)[0].numpy(), atol=1e-4)
    assert found.residual == pytest.approx(delta.item(), abs=1e-4)


def test_gradient_times_input_agrees_with_captum(transformer, plain):
    from captum.attr import LayerGradientXActivation

    ids = torch.arange(40, 47)[None]
    method = LayerGradientXActivation(captum_forward(plain, transformer.head[1]), plain.embeddings.word_embeddings)
    expected = method.attribute(ids).sum(-1)[0]
    found = scores(transformer, docs(ids[0]), "gradient_x_input", torch.tensor([1]), baseline="zero")
    assert np.allclose(found[0], expected.detach().numpy(), atol=1e-4)
