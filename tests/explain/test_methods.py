"""What holds of every method."""

import numpy as np
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.explain.explain import explain, work_for
from engine.explain.methods import METHODS, known_methods
from engine.explain.protocol import Explainable
from engine.explain.settings import Settings
from engine.text.units import Units
from tests.explain.toys import Linear, docs

ALL = [*METHODS, "fused", "uniform"]
BATCH = docs([5, 6, 7, 8, 9], range(20, 33), [11], names=["a", "b", "c"])
TARGETS = torch.tensor([0, 2, 1])
QUICK = {"steps": 8, "samples": 30, "perturbations": 2}


def test_the_methods_of_a_model_are_ours_and_its_own(transformer):
    assert isinstance(transformer, Explainable)
    assert set(known_methods(transformer)) == set(ALL)


@pytest.mark.parametrize("method", ALL)
def test_units_keep_their_offsets_and_weights_sum_to_one(transformer, method):
    for found, units in zip(explain(transformer, BATCH, TARGETS, method, Settings(**QUICK)), BATCH.words, strict=True):
        assert np.array_equal(found.start, units.start) and np.array_equal(found.end, units.end)
        assert found.weight.sum() == pytest.approx(1)
        assert np.allclose(found.weight, np.abs(found.score) / np.abs(found.score).sum())
        assert (found.method, found.status) == (method, "ok")


@pytest.mark.parametrize("method", ALL)
def test_a_record_alone_is_explained_as_in_any_batch(transformer, method):
    together = explain(transformer, BATCH, TARGETS, method, Settings(**QUICK))
    for order in ([0], [1], [2], [2, 0, 1]):
        batch = transformer.take(BATCH, order)
        small = Settings(tokens_per_pass=17, **QUICK)
        for record, found in zip(order, explain(transformer, batch, TARGETS[order], method, small), strict=True):
            expected = together[record]
            assert np.allclose(found.score, expected.score, rtol=1e-5, atol=1e-5 * np.abs(expected.score).max())
            assert found.settings == expected.settings and found.seed == expected.seed
            if expected.residual is not None:
                assert found.residual == pytest.approx(expected.residual, abs=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_the_same_call_gives_the_same_bits(transformer, method):
    first, again = (explain(transformer, BATCH, TARGETS, method, Settings(**QUICK)) for _ in range(2))
    assert all(np.array_equal(a.score, b.score) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("method", ALL)
def test_nothing_in_nothing_out(method):
    assert explain(Linear([1]), docs(), torch.zeros(0, dtype=torch.long), method) == []


@pytest.mark.parametrize("method", ALL)
def test_a_record_without_units_costs_itself_only(method):
    found = explain(Linear([1, 2]), docs([1, 2], [], [2, 1]), torch.zeros(3, dtype=torch.long), method)
    assert [one.status for one in found] == ["ok", "no_units", "ok"]
    assert len(found[1].score) == 0 and found[1].degenerate


@pytest.mark.parametrize("method", sorted(set(ALL) - {"random", "uniform"}))
def test_a_score_that_is_no_number_costs_its_record_only(method):
    model = Linear([1, 2, 1])
    model.embedding[3] = float("nan")
    found = explain(model, docs([1, 2], [1, 3], [2, 1]), torch.zeros(3, dtype=torch.long), method)
    assert [one.status for one in found] == ["ok", "not_finite", "ok"]
    assert not np.any(found[1].score) and found[1].target_score is None and found[1].residual is None


def test_nothing_that_counts_is_degenerate():
    (found,) = explain(Linear([0, 0]), docs([1, 2]), torch.tensor([0]), "occlusion")
    assert found.status == "degenerate" and not found.weight.any()


def test_a_method_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="'magic' is none of gradient_x_input"):
        explain(Linear([1]), docs([1]), torch.tensor([0]), "magic")


def test_units_and_targets_of_other_records_are_refused():
    other = [Units("word", np.array([0]), np.array([1]), np.array([0]))]
    with pytest.raises(ContractError, match="another number of positions"):
        work_for(Linear([1]), docs([1, 1]), torch.tensor([0]), units=other)
    with pytest.raises(ContractError, match="2 targets"):
        work_for(Linear([1]), docs([1]), torch.tensor([0, 0]))


def test_an_explanation_says_how_it_was_made():
    (found,) = explain(Linear([1, 2]), docs([1, 2]), torch.tensor([0]), "lime", Settings(samples=9, seed=4))
    assert found.settings == {"samples": 9, "kernel_width": 0.25, "ridge": 0.01, "seed": 4}
    assert found.seed is not None and found.target.name == "label 0" and found.score_kind == "logit"
    (found,) = explain(Linear([1, 2]), docs([1, 2]), torch.tensor([0]), "attnlrp")
    assert found.settings == {"baseline": "zero", "attention_rule": "constant"} and found.seed is None


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"baseline": "x"}, {"fuse": ("fused",)}, {"perturb_share": 1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        Settings(**wrong)
