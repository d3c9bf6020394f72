from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional

from engine.encoders import load_encoder
from engine.models.code_task import Task
from engine.models.site_classifier.config import LearnConfig
from engine.models.site_classifier.learner import Examples, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from tests.models.conftest import tiny_config

SITE = Task("site", ("C18", "C34", "C50"), (20, 20, 20))
IDS = [np.arange(1000, 1000 + size) for size in (9, 40, 3, 3, 5, 60)]
KIND = np.array(["real", "real", "rationale", "rationale", "rationale", "real"])


def new_learner(marked=None, task=SITE, labels=(0, 1, 0, 0, 1, 2), **changes):
    torch.manual_seed(5)
    network = SiteNetwork(tiny_config(tasks=(task,)), load_encoder("tiny:bert", torch.float32, "eager"))
    examples = Examples(
        record_id=[f"r{i}" for i in range(6)],
        ids=IDS,
        labels={task.name: np.array(labels)},
        train=np.array([True] * 5 + [False]),
        valid=np.array([False, True, False, False, False, True]),
        kind=KIND,
        sample=KIND == "rationale",
        marked=marked,
    )
    return SiteLearner(network, examples, LearnConfig(**{"masking": 0.0, "smoothing": 0.0, **changes}), torch.device("cpu"))


@pytest.mark.parametrize(("ratio", "counts"), [(-1, {1}), (0, {0}), (0.5, {0, 1}), (1.5, {1}), (4.5, {3})])
def test_an_epoch_has_every_report_once_and_samples_by_the_ratio(ratio, counts):
    learner = new_learner(ratio=ratio)
    orders = [learner.order(epoch) for epoch in range(6)]
    for order in orders:
        assert sorted(member for member in order if member < 2) == [0, 1]
        assert {order.count(member) for member in (2, 3, 4)} == counts
        assert 5 not in order
    assert len(set(map(tuple, orders))) > 1 and orders == [new_learner(ratio=ratio).order(epoch) for epoch in range(6)]


def test_each_kind_has_its_own_loss_and_samples_are_weighted():
    learner = new_learner(sample_weight=0.5)
    each = [float(next(learner.losses([member], 0))[0]["site"].detach()) for member in (0, 2, 3)]
    learner.further_figures()
    (terms,) = [terms for terms, _ in learner.losses([0, 2, 3], 0)]
    assert float(terms["site"].detach()) == pytest.approx(sum(each), rel=1e-4)
    losses = learner.further_figures()
    assert losses["loss_site_real"] == (pytest.approx(each[0], rel=1e-4), 1)
    # Reported without the weight of samples.
    assert losses["loss_site_rationale"] == (pytest.approx(2 * (each[1] + each[2]), rel=1e-4), 2)
    assert learner.further_figures() == {}


def test_marks_are_a_second_question_of_the_reports_that_have_them():
    flags = np.zeros(40, dtype=bool)
    flags[30:] = True
    learner = new_learner(marked=[None, flags, None, None, None, None], marking=2.0)
    assert {"marker.weight", "marker.bias"} <= set(learner.parameters())
    (terms,) = [terms for terms, _ in learner.losses([0, 1], 0)]
    batch, _ = next(learner._batches([1], 0))
    with torch.no_grad():
        logits = learner.marker(learner.network.encode(batch)).squeeze(-1)[batch.text]
    expected = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(flags).float())
    assert float(terms["marks"].detach()) == pytest.approx(2 * float(expected), rel=1e-4)


def test_figures_of_valid_are_those_of_scikit_learn():
    learner = new_learner(labels=(0, 2, 0, 0, 1, 0))
    with torch.no_grad():
        called = [int(learner.network(next(learner._batches([member], 0))[0]).logits["site"].argmax()) for member in (1, 5)]
    figures = learner.validate()
    assert figures["macro_f1"] == pytest.approx(f1_score([2, 0], called, labels=[0, 2], average="macro", zero_division=0))
    assert figures["accuracy_site"] == np.mean(np.array(called) == [2, 0])


def test_figures_of_several_labels_at_once():
    task = Task("hallmark", ("a", "b", "c"), (20, 20, 20), multi_label=True)
    gold = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    learner = new_learner(task=task, labels=gold)
    with torch.no_grad():
        called = [(learner.network(next(learner._batches([m], 0))[0]).logits["hallmark"][0] > 0).int().tolist() for m in (1, 5)]
    expected = f1_score(gold[[1, 5]][:, [0, 2]], np.array(called)[:, [0, 2]], average="macro", zero_division=0)
    assert learner.validate()["macro_f1_hallmark"] == pytest.approx(expected)


def gradient(learner, members=(0, 1, 2, 3, 4)):
    learner.network.zero_grad()
    for terms, _ in learner.losses(list(members), 0):
        (sum(terms.values()) / len(members)).backward()
    return {name: value.grad.clone() for name, value in learner.parameters().items() if value.grad is not None}


@pytest.mark.parametrize("changes", [{"budget": 64}, {"budget": 200}, {"checkpointing": 1}, {"checkpointing": 2, "budget": 200}])
def test_the_gradient_of_a_step_does_not_depend_on_budget_or_checkpointing(changes):
    whole, cut = gradient(new_learner()), gradient(new_learner(**changes))
    assert whole.keys() == cut.keys() and any(float(value.abs().max()) > 1e-3 for value in whole.values())
    for name, value in whole.items():
        assert torch.allclose(cut[name], value, rtol=1e-4, atol=1e-6), name


def test_micro_batches_on_a_cpu_are_smaller_unless_a_budget_is_set():
    assert (new_learner().budget, new_learner(budget=64).budget) == (2048, 64)


def test_micro_batches_hold_like_lengths_and_no_more_tokens_than_the_budget():
    learner = new_learner(budget=64)
    batches = [(members, batch.ids.shape) for batch, members in learner._batches([0, 1, 2, 3, 4], 0)]
    lengths = [len(IDS[member]) for members, _ in batches for member in members]
    assert len(batches) > 1 and lengths == sorted(lengths, reverse=True)
    assert all(len(members) == 1 or shape[0] * shape[1] <= 64 for members, shape in batches)


def test_in_bf16_a_step_has_a_finite_loss_and_gradient_like_that_in_fp32():
    learner = new_learner()
    learner.network.encoder.to(torch.bfloat16)
    losses = [float(terms["site"].detach()) for terms, _ in learner.losses([0, 1, 2, 3, 4], 0)]
    plain = [float(terms["site"].detach()) for terms, _ in new_learner().losses([0, 1, 2, 3, 4], 0)]
    assert losses == pytest.approx(plain, rel=0.05)
    figures = gradient(learner)
    assert figures and all(torch.isfinite(value).all() for value in figures.values())


def test_the_masked_tokens_of_a_report_do_not_depend_on_the_batch():
    learner = new_learner(masking=0.9)
    learner.window = 16

    def masked_tokens(members, budget):
        learner.config = replace(learner.config, budget=budget)
        masked = {}
        for batch, shown in learner._batches(members, 3):
            hidden = learner._masked(batch, shown, 3)
            for place, member in enumerate(shown):
                tokens = hidden & (batch.record == place).unsqueeze(1)
                masked[member] = sorted(batch.position[tokens].tolist())
        return masked

    # 40 tokens are three windows, and beside those of 60 they are padded otherwise than alone.
    alone = {member: masked_tokens([member], 1)[member] for member in range(6)}
    assert masked_tokens(list(range(6)), 10**6) == alone
    assert masked_tokens([5, 1, 3], 100) == {member: alone[member] for member in (1, 3, 5)}
    assert any(alone.values()) and alone[1] != [place for place in alone[5] if place < 40]


def test_a_report_without_a_label_is_no_part_of_a_mean_loss():
    learner = new_learner(labels=(0, -1, 0, 0, 1, 2))
    (terms,) = [terms for terms, _ in learner.losses([0, 1], 0)]
    assert learner.further_figures()["loss_site_real"] == (pytest.approx(float(terms["site"].detach()), rel=1e-4), 1)
    many = Task("hallmark", ("a", "b"), (20, 20), multi_label=True)
    learner = new_learner(task=many, labels=[[1, 0], [-1, -1], [0, 0], [0, 1], [1, 1], [0, 0]])
    list(learner.losses([0, 1, 2], 0))
    losses = learner.further_figures()
    assert (losses["loss_hallmark_real"][1], losses["loss_hallmark_rationale"][1]) == (1, 1)
