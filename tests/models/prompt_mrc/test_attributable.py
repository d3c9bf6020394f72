"""The extractor explained by every method of `engine.explain`, with its prompt as positions of a second kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.errors import ConfigError, ContractError
from engine.explain.boundary import boundary_checks, shift_margins
from engine.explain.explain import explain, explained, work_for
from engine.explain.faithfulness import faithfulness
from engine.explain.methods import METHODS, known_methods
from engine.explain.protocol import Explainable, SpanExplainable
from engine.explain.rules import relevance_rules
from engine.explain.settings import Measures, Settings
from engine.explain.stability import perturbed, stability
from engine.models.columns import list_values
from engine.models.entities.explainable import Place, evidence
from engine.models.entities.spans import windows
from engine.models.prompt_mrc.attributable import SpanModel
from engine.models.prompt_mrc.network import MatchHead
from engine.models.tokens import WORDS
from tests.explain.toys import complete
from tests.models.conftest import records
from tests.models.prompt_mrc.conftest import World, scattered, tiny_config, tiny_learner, write
from tests.models.prompt_mrc.test_extractor import extractor, rows

TEXT, OTHER = "today we saw hill green pear tree near a red apple", "a red apple, a plum"
ANYTHING = {"start": 1e-9, "end": 1e-9, "match": 1e-9, "nested": False}
QUICK = Settings(steps=4, samples=12, perturbations=2)
KINDS = {
    "hybrid": {},
    "soft": {"mode": "soft"},
    "hard": {"mode": "hard", "share_layers": 1},
    "tagger": {"mode": "tagger"},
    "deep": {"deep": True},
    "deep, apart": {"deep": True, "share_layers": 1},
}


class ExtractorModel(SpanModel):
    """The model that explains an extractor, and the extractor."""

    def __init__(self, system):
        super().__init__(system)
        self.extractor = system


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    learner = tiny_learner(tiny_config(**KINDS[request.param]), World.make(2))
    scattered(learner.network)
    decoding = {"match": 1e-9, "nested": False} if request.param == "tagger" else ANYTHING
    return ExtractorModel(extractor(write(learner, tmp_path_factory.mktemp("model") / "m", **decoding), runtime={"threads": 1}))


def batch_of(model, texts=(TEXT, OTHER), types=(0, 1), words=((4, 5), (2, 2))):
    """A batch of one span per text, given by its words, and the targets."""
    prepared = model.extractor.prepare(records(list(texts)))
    columns = [list_values(prepared[name]) for name in WORDS]
    places, targets = [], []
    for row, (kind, (first, last)) in enumerate(zip(types, words, strict=True)):
        (window,) = windows(row, columns[0][row], columns[1][row], model.config.window, model.config.overlap)
        places.append(Place(window, kind, *(column[row] for column in columns[2:])))
        begin = np.flatnonzero(window.starts & (window.word == first))
        end = np.flatnonzero(window.ends & (window.word == last))
        targets.append((int(begin[0]), int(end[0])))
    return model.spans(places, [f"r{row}" for row in range(len(texts))]), torch.tensor(targets)


def test_the_model_follows_the_protocol(model):
    assert isinstance(model, Explainable) and isinstance(model, SpanExplainable)
    assert known_methods(model) == (*METHODS, "fused")
    with pytest.raises(ConfigError, match=r"explain\.method: 'pooling' is none of gradient_x_input"):
        explain(model, *batch_of(model), "pooling")


def test_positions_are_the_words_then_the_prompt(model):
    batch, targets = batch_of(model)
    for units, kind, tokens in zip(model.units(batch), (0, 1), (11, 6), strict=True):
        pieces = [] if not model.config.is_hard else model.network.queries[kind]
        assert [unit.kind for unit in units.beside] == ["prompt"] * len(pieces) + ["soft_prompt"] * model.config.soft
        words = [unit.text for unit in units.beside if unit.kind == "prompt"]
        assert words == [model.extractor.tokenizer.id_to_token(piece) for piece in pieces]
        assert len(units.start) == tokens and len(units) == tokens + len(units.beside) == units.of_position.max() + 1
    assert model.sizes(batch).tolist() == [len(units.of_position) for units in model.units(batch)]
    assert len(model.embed(batch)) == len(model.blank(batch)) == model.sizes(batch).sum()
    named = model.named(batch, targets)
    assert [(each.name, each.kind, each.source) for each in named] == [("A", "span", "predicted"), ("B", "span", "predicted")]
    assert [text[each.start : each.end] for text, each in zip((TEXT, OTHER), named, strict=True)] == ["green pear", "apple"]


@pytest.mark.parametrize("method", [*METHODS, "fused"])
def test_every_method_explains_spans_and_every_measure_measures_them(model, method):
    work = work_for(model, *batch_of(model), QUICK)
    explanations = explained(work, method)
    faithful = faithfulness(work, explanations, Measures(shares=(0.2, 0.5), draws=1))
    steady = stability(work, method, explanations, perturbed(work), explained)
    for record, one in enumerate(explanations):
        assert one.status == "ok" and len(one.score) == len(work.units[record])
        assert one.weight.sum() == pytest.approx(1)
        assert np.isfinite(faithful[record].comp).all() and steady[record].copies == 2
        checks = boundary_checks(work, record, one)
        assert 0 <= checks["boundary_mass"] <= 1 and -1 <= checks["boundary_faith"] <= 1
        if method == "fused":
            assert {part["method"] for part in one.fusion} == {"gradient_x_input", "attnlrp"}


@pytest.mark.parametrize("method", ["gradient_x_input", "attnlrp", "occlusion", "integrated_gradients"])
def test_a_span_is_explained_the_same_alone_and_among_others(model, method):
    batch, targets = batch_of(model)
    together = explain(model, batch, targets, method, QUICK)
    for record, one in enumerate(together):
        (alone,) = explain(model, model.take(batch, [record]), targets[[record]], method, QUICK)
        assert alone.score.tolist() == pytest.approx(one.score.tolist(), rel=1e-4, abs=1e-5)


def test_integrated_gradients_leave_little_unexplained(model):
    for one in explain(model, *batch_of(model), "integrated_gradients", Settings(steps=40)):
        assert abs(one.target_score - one.blank_score) > 1e-3 and complete(one)


def test_the_probability_is_the_score_of_the_row(model):
    text = "a red apple today"
    (row,) = rows(model.extractor, [text])
    assert row["entities"]
    starts, ends = (list_values(model.extractor.prepare(records([text]))[name])[0].tolist() for name in WORDS[2:4])
    for each in row["entities"]:
        words = (starts.index(each["start"]), ends.index(each["end"]))
        batch, targets = batch_of(model, [text], [model.extractor.names.index(each["type"])], [words])
        assert model.probability(batch, targets).item() == pytest.approx(each["score"], abs=1e-6)
        assert model.holds(batch, targets).tolist() == [True]


def test_a_span_below_the_thresholds_does_not_hold(model):
    batch, targets = batch_of(model)
    model.decoding, before = replace(model.decoding, start=0.999999, end=0.999999, match=0.999999), model.decoding
    assert model.holds(batch, targets).tolist() == [False, False]
    model.decoding = before


def test_erased_positions_have_their_blanks_and_none_can_be_deleted(model):
    batch, targets = batch_of(model)
    nothing = np.zeros(int(model.sizes(batch).sum()), dtype=bool)
    bare = model.erase(batch, nothing)
    assert torch.equal(model.embed(bare), model.blank(batch))
    table = model.network.encoder.get_input_embeddings().weight
    width, offset = table.shape[1], 0
    for units, size in zip(batch.units, model.sizes(batch).tolist(), strict=True):
        blank, soft = model.blank(batch)[offset : offset + size], len(units.beside) - model.config.soft
        offset += size
        words = size - model.config.soft
        assert torch.equal(blank[:words, :width], table[model.config.special[3]].expand(words, -1))
        assert torch.allclose(blank[words:, :width], table.mean(0).expand(model.config.soft, -1))
        assert not blank[:, width:].any() and soft >= 0
    # An erased position stays erased.
    everything = ~nothing
    assert torch.equal(model.embed(model.erase(bare, everything)), model.blank(batch))
    assert torch.equal(model.score(bare, targets), model.score(batch, targets, embeds=model.blank(batch)))
    with pytest.raises(ContractError, match="nothing can be taken out"):
        model.erase(batch, nothing, "delete")


def test_the_margin_over_shifted_spans_by_hand(model):
    batch, targets = batch_of(model)
    margins = shift_margins(work_for(model, batch, targets))
    for record, near in enumerate([[(3, 5), (5, 5), (4, 4), (4, 6)], [(1, 2), (2, 3)]]):
        text, kind = (TEXT, OTHER)[record], (0, 1)[record]
        shifted = [model.score(*batch_of(model, [text], [kind], [words])).item() for words in near]
        own = model.score(batch, targets)[record].item()
        assert margins[record] == pytest.approx(own - max(shifted), abs=1e-5)
    alone = work_for(model, *batch_of(model, ["apple"], [0], [(0, 0)]))
    assert shift_margins(alone) == [None]


def test_template_and_soft_prompt_matter_if_there_are_any(model):
    (explanation, _) = explain(model, *batch_of(model), "occlusion")
    shares = explanation.shares
    assert ("prompt" in shares) == model.config.is_hard and ("soft_prompt" in shares) == model.config.is_soft
    assert min(shares.values()) > 1e-4 and sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("method", ["attnlrp", "gradient_x_input"])
def test_the_row_has_the_shares_of_the_explanation(model, method):
    batch, targets = batch_of(model)
    explained_rows = evidence(model, batch, targets.tolist(), method, 3)
    for one, row in zip(explain(model, batch, targets, method), explained_rows, strict=True):
        shares = [row[name] for name in ("context_share", "hard_share", "soft_share")]
        assert shares == pytest.approx([one.shares.get(kind, 0.0) for kind in ("word", "prompt", "soft_prompt")])
        assert len(row["evidence"]) <= 3 and sum(run["weight"] for run in row["evidence"]) <= shares[0] + 1e-9


def test_scores_that_are_nan_fail_their_record(model, monkeypatch):
    monkeypatch.setattr(model, "blank", lambda batch: torch.full_like(model.embed(batch), float("nan")))
    batch, targets = batch_of(model)
    with pytest.raises(ValueError, match="not finite"):
        evidence(model, batch, targets.tolist(), "gradient_x_input", 3)


def test_evidence_by_the_whole_encoder_at_once(tmp_path):
    """The row's values recomputed with a plain encoder over [CLS] H S [SEP] C [SEP] and the definition of the shares."""
    learner = tiny_learner(tiny_config(), World.make(2))
    scattered(learner.network)
    system = extractor(
        write(learner, tmp_path / "m", **ANYTHING), every=True, evidence="gradient_x_input", runtime={"threads": 1}
    )
    (row,) = rows(system, [TEXT])
    network, plain = system.network, load_encoder("tiny:bert", torch.float32, "eager")
    plain.load_state_dict(network.encoder.state_dict())
    prepared = system.prepare(records([TEXT]))
    ids, of, starts, ends = (list_values(prepared[name])[0].astype(int) for name in WORDS[:4])
    assert len(row["entities"]) > 3
    table = network.encoder.get_input_embeddings().weight
    for each in row["entities"]:
        kind = system.names.index(each["type"])
        pieces, soft = network.queries[kind], torch.cat([network.soft.shared, network.soft.own[kind]])
        prompt = torch.cat([table[[101, *pieces]], soft, table[[102]]])
        inputs = torch.cat([prompt, table[[*ids.tolist(), 102]]]).unsqueeze(0).requires_grad_()
        head = len(prompt)
        places = torch.tensor([[*range(head), *range(32, 32 + len(ids) + 1)]])
        kinds = (torch.arange(inputs.shape[1]) >= head).long().unsqueeze(0)
        states = plain(inputs_embeds=inputs, token_type_ids=kinds, position_ids=places).last_hidden_state[0, head:]
        i = int(np.flatnonzero(of == starts.tolist().index(each["start"]))[0])
        j = int(np.flatnonzero(of == ends.tolist().index(each["end"]))[-1])
        match = network.match.out(network.match.gelu(network.match.first(states[i]) + network.match.second(states[j])))
        (slope,) = torch.autograd.grad((network.start(states[i]) + network.end(states[j]) + match).sum(), inputs)
        blank = table[103].expand(inputs.shape[1], -1).clone()
        blank[1 + len(pieces) : head - 1] = table.mean(0)
        score = ((inputs[0] - blank) * slope[0]).sum(-1).detach().numpy()
        words = np.bincount(of, weights=score[head:-1])
        sums = [np.abs(part).sum() for part in (words, score[1 : 1 + len(pieces)], score[1 + len(pieces) : head - 1])]
        shares = [each[name] for name in ("context_share", "hard_share", "soft_share")]
        assert shares == pytest.approx((np.array(sums) / sum(sums)).tolist(), abs=1e-5)
        for run in each["evidence"]:
            inside = (starts >= run["start"]) & (ends <= run["end"])
            assert run["score"] == pytest.approx(words[inside].sum(), abs=1e-5)
            assert run["weight"] == pytest.approx(np.abs(words[inside]).sum() / sum(sums), abs=1e-5)


def test_relevance_is_conserved_by_the_match_head():
    torch.manual_seed(1)
    head, encoder = MatchHead(8, 16), load_encoder("tiny:bert", torch.float32, "eager")
    for each in (head.first, head.out):
        torch.nn.init.zeros_(each.bias)
    states = torch.randn(1, 3, 8, requires_grad=True)
    span = [torch.tensor([each]) for each in (0, 0, 2)]
    values = {}
    for name, rules in (("plain", None), ("rules", relevance_rules(encoder, head))):
        if rules is None:
            value = head(states, *span)
        else:
            with rules:
                value = head(states, *span)
        (slope,) = torch.autograd.grad(value.sum(), states)
        values[name] = (value.item(), (states * slope).sum().item())
    assert values["rules"][0] == values["plain"][0]
    assert values["rules"][1] == pytest.approx(values["rules"][0], rel=1e-5)
    assert values["plain"][1] != pytest.approx(values["plain"][0], rel=1e-2)


def test_rules_change_gradients_but_no_value(model):
    batch, targets = batch_of(model)

    def both():
        embeds = model.embed(batch).requires_grad_()
        value = model.score(batch, targets, embeds=embeds)
        return value.detach(), torch.autograd.grad(value.sum(), embeds)[0]

    (plain, slope), context = both(), model.relevance_rules()
    with context:
        value, other = both()
    assert torch.allclose(plain, value, atol=1e-5) and not torch.allclose(slope, other, atol=1e-5)
    assert torch.equal(both()[1], slope)
