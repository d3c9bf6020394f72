from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.explain.explain import explain, explained, work_for
from engine.explain.faithfulness import faithfulness
from engine.explain.methods import known_methods
from engine.explain.protocol import Explainable
from engine.explain.settings import Measures, Settings
from engine.models.code_explainable import reports
from engine.models.columns import matrix
from engine.models.site_classifier.attributable import SiteExplainable
from engine.models.site_classifier.window_cache import WindowCache
from engine.text.units import sentences
from tests.explain.toys import complete
from tests.models.conftest import TASKS, TEXTS, coded, coder, records, tiny_config, write_tiny

QUICK = {"steps": 6, "samples": 20, "perturbations": 2}
METHODS = (
    "gradient_x_input",
    "grad_l2",
    "integrated_gradients",
    "attnlrp",
    "occlusion",
    "lime",
    "kernel_shap",
    "random",
    "fused",
    "attention",
    "pooling",
)
SHORT = [TEXTS[0], TEXTS[1], "Prostate needle biopsy. " * 14, "x"]


@pytest.fixture(scope="module")
def system(tiny):
    return coder(tiny, method="none")


@pytest.fixture(scope="module")
def model(system):
    return SiteExplainable(system, "histology")


@pytest.fixture(scope="module")
def batch(system):
    return reports(system.prepare(records(SHORT)))


def test_the_classifier_offers_the_protocol_and_its_own_methods(model):
    assert isinstance(model, Explainable)
    assert set(known_methods(model)) == set(METHODS)


def test_the_answer_that_is_explained_is_the_one_in_the_table(system, model, batch):
    rows = coded(system, SHORT)
    targets = model.predicted(batch)
    assert [target.name for target in model.named(batch, targets)] == [row["histology_code"] for row in rows]
    assert model.probability(batch, targets).tolist() == pytest.approx([row["histology_prob"] for row in rows], abs=1e-6)
    assert model.holds(batch, targets).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_report_of_any_length_is_explained_the_same_alone_and_in_a_batch(model, batch, method):
    targets = model.predicted(batch)
    together = explain(model, batch, targets, method, Settings(**QUICK))
    assert [len(explanation.score) for explanation in together] == [len(words) for words in batch.words]
    for index in (0, 2, 3):
        small = Settings(tokens_per_pass=100, **QUICK)
        (alone,) = explain(model, model.take(batch, [index]), targets[[index]], method, small)
        scale = np.abs(together[index].score).max()
        assert scale > 0
        assert np.allclose(alone.score, together[index].score, rtol=1e-5, atol=1e-5 * max(1, scale))


@pytest.mark.parametrize("method", ["pooling", "gradient_x_input", "grad_l2", "attention", "attnlrp"])
def test_scores_are_those_of_the_evidence_in_the_table(tiny, model, batch, method):
    targets = model.predicted(batch)
    rows = coded(coder(tiny, method=method, spans=50), SHORT)
    for row, explanation in zip(rows, explain(model, batch, targets, method), strict=True):
        for span in row["histology_evidence"]:
            inside = (explanation.start >= span["start"]) & (explanation.end <= span["end"])
            assert explanation.score[inside].sum() == pytest.approx(span["score"], rel=1e-4, abs=1e-4)


def test_comprehensiveness_is_the_fall_for_masked_text(model, batch):
    targets = model.predicted(batch)
    work = work_for(model, batch, targets)
    explanations = explained(work, "pooling")
    measured = faithfulness(work, explanations, Measures(shares=(0.2,), draws=0))
    for index in (0, 2):
        count = int(np.ceil(0.2 * len(explanations[index].score)))
        top = np.argsort(-explanations[index].score, kind="stable")[:count]
        keep = ~np.isin(batch.words[index].of_position, top)
        one = model.take(batch, [index])
        fall = model.probability(one, targets[[index]]) - model.probability(model.erase(one, keep), targets[[index]])
        assert measured[index].comp[0] == pytest.approx(fall.item(), abs=1e-6)


def test_deleted_tokens_are_gone_and_an_empty_text_still_has_an_answer(system, model, batch):
    one = model.take(batch, [0])
    keep = np.zeros(len(one.ids[0]), dtype=bool)
    keep[:3] = True
    shorter = model.erase(one, keep, "delete")
    assert shorter.ids[0].tolist() == one.ids[0][:3].tolist()
    empty = model.erase(one, np.zeros_like(keep), "delete")
    bias = system.network.heads["histology"].bias / model.temperature
    assert model.probability(empty, torch.tensor([1])).item() == pytest.approx(bias.softmax(-1)[1].item(), abs=1e-6)


def test_sentences_of_a_report(model, batch):
    targets = model.predicted(batch)
    large = [words.merged("sentence", *sentences(text)) for words, text in zip(batch.words, SHORT, strict=True)]
    assert [len(units) for units in large] == [1, 1, 14, 1]
    fine = explain(model, batch, targets, "pooling")
    for coarse, small, units in zip(explain(model, batch, targets, "pooling", units=large), fine, large, strict=True):
        assert coarse.unit_kind == "sentence"
        assert coarse.score.sum() == pytest.approx(small.score.sum(), rel=1e-6)
        assert np.array_equal(coarse.start, units.start)


def test_relevance_rules_leave_the_network_as_it_was(model, batch):
    targets = model.predicted(batch)
    before = explain(model, batch, targets, "gradient_x_input")
    explain(model, batch, targets, "attnlrp")
    after = explain(model, batch, targets, "gradient_x_input")
    assert all(np.array_equal(a.score, b.score) for a, b in zip(before, after, strict=True))
    plain = model.probability(batch, targets)
    with model.relevance_rules():
        assert torch.allclose(model.probability(batch, targets), plain, atol=1e-6)


def test_targets_by_code(model):
    assert model.targets(["8140/3", "8070/3"]).tolist() == [1, 0]
    with pytest.raises(ConfigError, match="no code '9999/9'"):
        model.targets(["9999/9"])


def test_a_multi_label_task_is_explained_by_its_chosen_labels(tmp_path):
    tasks = (TASKS[0], replace(TASKS[1], multi_label=True))
    system = coder(write_tiny(tmp_path / "many", tiny_config(tasks=tasks)), method="none")
    model = SiteExplainable(system, "histology")
    batch = reports(system.prepare(records(SHORT)))
    targets = model.predicted(batch)
    assert [target.name for target in model.named(batch, targets)] == [row["histology_code"] for row in coded(system, SHORT)]
    prob = 1 / (1 + np.exp(-matrix(system.scores(system.prepare(records(SHORT)))["histology_logits"]) / 2.0))
    least = np.where(prob > 0.5, prob, 1.0).min(1)
    assert model.probability(batch, targets).tolist() == pytest.approx(least.tolist(), abs=1e-6)
    assert model.targets(["8140/3;8500/3"]).tolist() == [[0, 1, 1]]
    (explanation, *_) = explain(model, batch, model.targets(["8140/3;8500/3"] * 4), "integrated_gradients", Settings(steps=30))
    assert complete(explanation) and explanation.score_kind == "logit"


def test_a_paired_text_is_read_and_never_erased(tmp_path):
    system = coder(write_tiny(tmp_path / "pair", tiny_config(paired=True)), method="none", pair="question")
    batches = [
        reports(system.prepare(records(SHORT[:1], keep={"question": [question]})))
        for question in ("is it colon?", "was it lung?")
    ]
    model = SiteExplainable(system, "site")
    target = torch.tensor([0])
    scores = [explain(model, batch, target, "gradient_x_input")[0] for batch in batches]
    assert len(scores[0].score) == len(batches[0].words[0])
    assert not np.allclose(scores[0].score, scores[1].score)
    assert scores[0].blank_score != pytest.approx(scores[1].blank_score, abs=1e-6)


def test_a_network_with_other_gradients_is_refused(tiny):
    with pytest.raises(ContractError):
        SiteExplainable(coder(tiny, method="attention_constant"), "site")


def test_weights_first_used_for_prediction_can_still_be_explained(tiny):
    system = coder(tiny, method="none")
    prepared = system.prepare(records(SHORT[:1]))
    system.scores(prepared)
    model = SiteExplainable(system, "site")
    batch = reports(prepared)
    assert explain(model, batch, model.predicted(batch), "pooling")[0].status == "ok"


@pytest.mark.parametrize("room", [0, 100_000])
def test_copies_of_a_report_are_encoded_window_by_window_once(system, batch, room):
    encoded = []
    model = SiteExplainable(system, "site", WindowCache(room))
    encoder = model.network.encoder
    hook = encoder.register_forward_hook(lambda module, args, kwargs, out: encoded.append(len(out[0])), with_kwargs=True)
    one = model.take(batch, [2])
    words = len(one.words[0])
    try:
        explain(model, one, torch.tensor([0]), "occlusion", Settings(residual=False, tokens_per_pass=200 if room else 16384))
    finally:
        hook.remove()
    windows = -(-len(one.ids[0]) // 24)
    assert windows > 1
    assert sum(encoded) <= windows + (words + windows)
