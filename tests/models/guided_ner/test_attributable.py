"""The tagger before the methods of explanation: F and its changes are those of the network, worked out anew."""

import numpy as np
import pytest
import torch

from engine.explain.explain import explain, work_for
from engine.explain.settings import Settings
from engine.explain.stability import perturbed
from engine.models import explanations, run
from engine.models.base import ModelSpec
from engine.models.entities.explainable import Place
from engine.models.entities.spans import collate
from engine.models.guided_ner import explained
from engine.models.guided_ner.attributable import Live, SpanModel
from engine.models.guided_ner.checkpoint import SYSTEM
from engine.models.guided_ner.config import HEADS
from engine.models.guided_ner.network import Words, log_odds
from engine.models.tokens import WORDS
from tests.models.conftest import records
from tests.models.entities.conftest import written
from tests.models.guided_ner.conftest import TOKENIZER, answers, scattered, tagger, tiny_config, window_of

TEXTS = ["患者左侧伴红斑，予软膏。", "三年余皮损伴丘疹"]
SPAN = (5, 6)


def places(count=2):
    """The window of each text, with its words in characters."""
    found = []
    for number, text in enumerate(TEXTS[:count]):
        (window,), start = window_of(text, number=number), np.arange(len(text))
        found.append(Place(window, 1, start, start + 1, np.ones(len(text), bool)))
    return found


def batch_of(network, classes, count=2):
    model = SpanModel(Live(network, classes))
    return model, model.spans(places(count), [f"id {at}" for at in range(count)]), torch.tensor([SPAN, SPAN])[:count]


def score(network, window, masked=()):
    """F of the span in a window some of whose tokens are masked."""
    batch = collate([window], network.config.special)
    for token in masked:
        batch.ids[0, 1 + token] = network.config.special[3]
    each = [torch.tensor([value]) for value in (0, *SPAN, 1)]
    with torch.no_grad():
        return log_odds(network.spans(network(batch)[:, 1:], Words([window], "cpu"), *each)).item()


def test_f_is_the_log_odds_of_the_span(network, classes):
    model, batch, targets = batch_of(network, classes)
    assert model.score(batch, targets).tolist() == pytest.approx([score(network, each) for each in batch.windows], abs=1e-4)


def test_occlusion_is_what_f_loses_as_each_character_is_masked(network, classes):
    model, batch, targets = batch_of(network, classes)
    for window, found in zip(batch.windows, explain(model, batch, targets, "occlusion"), strict=True):
        whole = score(network, window)
        expected = [whole - score(network, window, [token]) for token in range(len(window))]
        assert found.score.tolist() == pytest.approx(expected, abs=1e-3) and np.ptp(expected) > 0.01


def test_gradient_times_input_is_that_of_f(network, classes):
    model, batch, targets = batch_of(network, classes, 1)
    (found,) = explain(model, batch, targets, "gradient_x_input", Settings(baseline="zero"))
    windows = collate(batch.windows, network.config.special)
    embeds = network.embed(windows.ids).detach().requires_grad_()
    each = [torch.tensor([value]) for value in (0, *SPAN, 1)]
    value = log_odds(network.spans(network(windows, embeds)[:, 1:], Words(batch.windows, "cpu"), *each))
    (slope,) = torch.autograd.grad(value.sum(), embeds)
    assert found.score.tolist() == pytest.approx((slope * embeds).sum(-1)[0, 1:-1].tolist(), rel=1e-3, abs=1e-5)


def test_the_global_method_is_the_table_and_falls_off_with_the_distance(network, classes):
    with torch.no_grad():
        network.glob[:, 1] = torch.arange(len(network.glob)).float()
        network.glob[:, 0] = -1.0
    model, batch, targets = batch_of(network, classes)
    for window, found in zip(batch.windows, explain(model, batch, targets, "global"), strict=True):
        at = np.arange(len(window))
        distance = np.maximum.reduce([np.zeros(len(window)), SPAN[0] - at, at - SPAN[1]])
        assert found.score.tolist() == pytest.approx((window.ids * np.exp(-distance / 8)).tolist(), rel=1e-5)
    # An erased character counts as [MASK].
    keep = np.ones(int(model.sizes(batch).sum()), bool)
    keep[0] = False
    values = model.own("global", model.erase(batch, keep), targets)
    assert values[0].item() == pytest.approx(4 * np.exp(-5 / 8)) and values[1].item() == pytest.approx(
        batch.windows[0].ids[1] * np.exp(-4 / 8), rel=1e-5
    )
    with torch.no_grad():
        network.glob.zero_()


def test_copies_spare_the_span_and_what_denies_or_counts(network, classes):
    model, batch, targets = batch_of(network, classes)
    for flags, window in zip(model.spared(batch, targets), batch.windows, strict=True):
        assert flags[[5, 6]].all() and (flags == (classes.spared[window.ids] | np.isin(np.arange(len(window)), SPAN))).all()
    comma, rng = TOKENIZER.token_to_id(","), np.random.default_rng(0)
    assert model.variants(comma, rng) == TOKENIZER.token_to_id("。")
    assert model.variants(TOKENIZER.token_to_id("患"), rng) == TOKENIZER.token_to_id("患")
    for copy in perturbed(work_for(model, batch, targets, Settings(perturb="replace", perturb_share=0.9))):
        for old, place in zip(batch.windows, copy.work.batch.places, strict=True):
            for before, after in zip(old.ids.tolist(), place.window.ids.tolist(), strict=True):
                assert after == before or (after in classes.others[before] and not classes.spared[before])


@pytest.mark.parametrize("head", HEADS)
def test_an_entitys_probability_is_its_score_in_the_row(folders, head):
    system = tagger(folders[head], evidence="none")
    prepared = system.prepare(records(TEXTS))
    rows = answers(system, TEXTS)
    found = [(number, each) for number, row in enumerate(rows) for each in row["entities"]]
    assert len(found) > 1
    windows, words = system.windows(prepared), prepared.to_pylist()
    made = [
        Place(windows[number][0], system.names.index(each["type"]), *(np.array(words[number][name]) for name in WORDS[2:]))
        for number, each in found
    ]
    model = system.span_model
    batch, tokens = model.spans(made, ["x"] * len(made)), torch.tensor([(each["start"], each["end"] - 1) for _, each in found])
    assert model.probability(batch, tokens).tolist() == pytest.approx([each["score"] for _, each in found], rel=1e-4)
    assert model.holds(batch, tokens).all()
    # With an end moved by a character none of them holds, unless that is one of the others.
    margins = model.shift_margin(batch, tokens)
    assert margins.isfinite().all()


def test_the_other_ends_are_worse_by_the_shift_margin(network, classes):
    model, batch, targets = batch_of(network, classes, 1)
    (window,) = batch.windows
    logits = network(collate([window], network.config.special))[:, 1:]
    values = []
    for first, last in ((5, 6), (4, 6), (6, 6), (5, 5), (5, 7)):
        each = [torch.tensor([value]) for value in (0, first, last, 1)]
        values.append(log_odds(network.spans(logits, Words([window], "cpu"), *each)).item())
    assert model.shift_margin(batch, targets).item() == pytest.approx(values[0] - max(values[1:]), abs=1e-4)


def test_the_answers_of_a_run_are_explained_by_the_table_of_the_training(folders, tmp_path):
    system = tagger(folders["crf"], evidence="none")
    coded = answers(system, TEXTS)
    options = {"run": "abc", "of": SYSTEM, "method": "global", "stability": 1.0, "perturb": "replace"}
    given = {"answers": [written(tmp_path / "a.parquet", TEXTS, coded)], "threads": 1}
    explainer = explanations.load(ModelSpec("", str(folders["crf"]), options, given))
    _, prepared = run.prepare(explainer, records(TEXTS))
    found = [target for row in explainer.run(prepared).to_pylist() for target in row["targets"]]
    assert len(found) == sum(len(row["entities"]) for row in coded) and found[0]["target_kind"] == "span"
    # Nothing is trained, so the table is empty and says nothing.
    assert {target["status"] for target in found} == {"degenerate"}
    assert explained.load(ModelSpec(SYSTEM, str(folders["crf"]), {"precision": "fp32"}, {}), (), {}).own_methods == {"global"}


def test_live_networks_have_all_types_and_no_tokenizer(classes):
    live = Live(scattered(tiny_config()), classes)
    assert live.types == [0, 1] and live.names == ("DRUG", "SIGN") and live.tokenizer is None
