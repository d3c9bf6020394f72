"""Measures and fits of the extractor's studies on a made-up language, and figures worked by hand."""

import numpy as np
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.evaluation.resample import share_interval
from engine.models.base import ModelSpec
from engine.models.prompt_mrc import load
from engine.models.prompt_mrc.config import DataConfig
from engine.models.prompt_mrc.texts import load_corpus
from engine.models.run import records_of
from engine.studies.prompt_mrc.cost import _logits, cost, open_heads
from engine.studies.prompt_mrc.pairs import shares
from engine.studies.spans import renamed
from engine.studies.training import seconds_per_epoch
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

TEXTS = ["the old man sells bread near a river", "red apple"]


def test_prompts_alone_on_a_frozen_encoder_and_exchanged(run_study):
    base = {"after": "tiny", "arm": "base", "corpus": "one"}
    prompts = {"model.mode": "hybrid", "model.shared_soft": 3, "model.type_soft": 1, "model.base": base}
    prompts |= {"model.freeze_encoder": True, "model.freeze_heads": True}
    other = {"after": "tiny", "arm": "m3", "corpus": "one", "at": "{folder}/prompts.safetensors"}
    own = {"use": {"after": "tiny", "arm": "m3"}, "corpora": ["two"], "data.types": ["Disease"]}
    arms = {
        "base": {"model.mode": "hard", "corpora": ["one"]},
        "m0": {"model.mode": "hard", "model.base": base, "model.freeze_encoder": True, "untrained": True},
        "m3": prompts,
        "deep": {**prompts, "model.deep": True},
        "own": own,
        "swap": {**own, "answer.prompts": other},
    }
    compare = [{"pairs": [["m3", "m0"], ["swap", "own"]], "metrics": ["f1"], "over": ["texts"]}]
    corpora = {"one": "one.parquet", "two": "two.parquet"}
    values = run_study({"arms": arms, "corpora": corpora, "measure": ["spans", "training"], "compare": compare})
    # Three shared vectors and one a type of width 32 are all that is trained, at each of two layers where they are deep.
    assert values["one", "m3", "trained_parameters", "all"] == (3 + 2) * 32
    assert values["two", "m3", "trained_parameters", "all"] == (3 + 1) * 32
    assert values["one", "deep", "trained_parameters", "all"] == 2 * (3 + 2) * 32
    # The base as it is, under the first corpus what the base itself is.
    assert values["one", "m0", "trained_parameters", "all"] == 0
    assert values["one", "m0", "f1", "all"] == values["one", "base", "f1", "all"]
    for arm, against in (("m3", "m0"), ("swap", "own")):
        less = values["two", arm, "f1", "all"] - values["two", against, "f1", "all"]
        assert values["two", arm, "f1", f"less {against}, over texts"] == pytest.approx(less)
    assert values["two", "own", "f1", "all"] == values["two", "m3", "f1", "all"]


def test_another_corpus_by_the_model_s_types_and_by_questions_of_its_own(run_study, corpora):
    use = {"use": {"after": "tiny", "arm": "hard", "corpus": "two"}, "corpora": ["one"]}
    arms = {
        "hard": {"model.mode": "hard"},
        "on": {**use, "spans.types": {"Chemical": "Disease"}},
        "asked": {**use, "answer.types": ["Chemical"], "answer.questions": {"Chemical": "which fruit grows on a hill"}},
    }
    places = {"two": "two.parquet", "one": {"path": "one.parquet", "data.types": ["Chemical"]}}
    values = run_study({"arms": arms, "corpora": places})
    assert ("one", "on", "f1", "all") in values and ("one", "asked", "f1", "all") in values
    corpus = load_corpus(DataConfig(f"{corpora}/one.parquet"))
    other = renamed(corpus, {"Chemical": "Fruit"})
    assert other.types == ("Disease", "Fruit") and set.union(*map(set, other.marked.values())) == {"Disease", "Fruit"}
    kinds = [[span.type for span in each.spans] for each in other.documents]
    assert kinds == [[{"Chemical": "Fruit"}.get(span.type, span.type) for span in each.spans] for each in corpus.documents]


def test_templates_under_one_budget(run_study):
    arms = {kind: {"templates.kind": kind} for kind in ("manual", "auto", "mentions", "name")}
    values = run_study({"fit": "templates", "arms": arms, "base": {"model.mode": "hard"}, "measure": ["spans", "templates"]})
    longest = {kind: values["one", kind, "longest_template", "all"] for kind in arms}
    assert longest["name"] < longest["mentions"] <= longest["manual"] and longest["auto"] <= longest["manual"]
    assert values["one", "mentions", "mentions_in", "type=Disease"] >= 1
    assert ("one", "manual", "mentions_in", "type=Disease") not in values
    with pytest.raises(ConfigError, match=r"templates\.kind is manual"):
        run_study({"fit": "templates", "arms": {"odd": {"templates.kind": "odd"}}, "measure": ["templates"]}, folder="odd")


def test_nested_pairs_by_hand():
    gold = {"a": [(0, 9, "A"), (0, 4, "A"), (20, 25, "B")], "b": [(0, 9, "A"), (2, 4, "B"), (5, 7, "B")]}
    said = {"a": {(0, 9, "A"), (0, 4, "A")}, "b": {(0, 9, "A"), (5, 7, "B"), (2, 5, "B")}}
    rows = {row.metric: row for row in shares(gold, said)}
    assert {name: (row.value, row.n) for name, row in rows.items()} == {
        "nested_inner_found": (2 / 3, 3),
        "nested_outer_found": (1, 3),
        "nested_both_found": (2 / 3, 3),
    }
    assert (rows["nested_both_found"].low, rows["nested_both_found"].high) == share_interval(2, 3)
    assert [row.value for row in shares({"a": []}, {"a": set()})] == [None] * 3


def test_seconds_of_an_epoch_by_hand():
    curve = [{"step": 10, "epoch": 0.5, "steps_per_second": 2.0}, {"step": 30, "epoch": 1.5, "steps_per_second": 4.0}]
    assert seconds_per_epoch(curve) == pytest.approx((10 / 2 + 20 / 4) / 1.5)
    two = [{"phase": 1, **row} for row in curve] + [{"phase": 2, "step": 5, "epoch": 0.5, "steps_per_second": 1.0}]
    assert seconds_per_epoch(two) == pytest.approx((10 / 2 + 20 / 4 + 5) / 2)


def extractor_of(tmp_path, batch_tokens=4096, **changes):
    folder = tmp_path / f"{sorted(changes.items())}"
    if not folder.exists():
        write(tiny_learner(tiny_config(**changes), World.make(2)), folder)
    runtime = {"threads": 1, "batch_tokens": batch_tokens}
    return ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32"}, runtime)


def test_one_pass_for_all_types_costs_less_than_one_each_where_layers_are_shared(tmp_path):
    def measured(separate=False, **changes):
        return cost(load(extractor_of(tmp_path, **changes)), TEXTS, separate=separate, repeats=2)

    whole, each = (measured(separate, mode="soft") for separate in (False, True))
    assert whole["flops"] == each["flops"]
    shared, apart = (measured(separate, mode="soft", share_layers=1) for separate in (False, True))
    # The second type is spared the lower layer over the texts' 9 and 3 tokens: in each 2 x (4 x 32 x 32 + 2 x 32 x 64) a token,
    # and 2 x 2 x 32 a pair of tokens; the figure is the mean of the two texts.
    assert apart["flops"] - shared["flops"] == (16384 * (9 + 3) + 128 * (9 * 9 + 3 * 3)) / 2
    assert apart["flops"] <= whole["flops"]
    tagger = measured(mode="tagger")
    assert tagger["flops"] < 0.5 * shared["flops"]
    assert 0 < shared["p50"] <= shared["p95"] and shared["peak"] >= 0
    # Soft vectors, heads of 32 + 1 each, and the match head of 2 x 32 x 32 + 32 + 32 + 1.
    assert shared["parameters"] - tagger["parameters"] == 8 * 32 + 66 + 2113 - 33 * 6


def test_what_a_text_costs_does_not_hang_on_the_others(tmp_path):
    extractor = load(extractor_of(tmp_path, 10**9, mode="soft"))
    each = [cost(extractor, [text], repeats=1)["flops"] for text in TEXTS]
    assert cost(extractor, TEXTS, repeats=1)["flops"] == sum(each) / 2
    # Together the short text is padded to the long one's length.
    assert cost(extractor, TEXTS, repeats=1, at_once=2)["flops"] == max(each)
    for wrong in ({"texts": []}, {"texts": TEXTS, "at_once": 0}):
        with pytest.raises(ContractError):
            cost(extractor, **wrong)


@pytest.mark.parametrize("mode", ["soft", "tagger"])
def test_heads_open_for_as_many_words_as_are_marked(tmp_path, mode):
    world = World.make(40)
    extractor, marked = load(extractor_of(tmp_path, mode=mode)), sum(map(len, world.spans))
    share = open_heads(extractor, world.texts, marked)
    assert share == pytest.approx(marked / (2 * sum(len(text.split()) for text in world.texts)))
    starts, _ = _logits(extractor, extractor.prepare(records_of(map(str, range(40)), world.texts)))
    assert np.mean(starts > 0) == pytest.approx(share, abs=0.02)
    assert torch.isfinite(torch.from_numpy(starts)).all()


@pytest.mark.timeout(600)
def test_the_cost_of_an_arm_is_measured_in_processes_of_their_own(run_study):
    base = {"untrained": True, "settle": False, "model.mode": "name", "cost.records": 3, "cost.repeats": 1, "cost.at_once": 2}
    values = run_study({"arms": {"apart": {"cost.separate": True}}, "base": base, "measure": ["cost"]})
    found = {key[2:]: value for key, value in values.items()}
    assert found["gflops_per_text", "all"] > 0 and found["ms_per_text_p50", "alone"] > 0 and found["peak_mib", "2 at once"] >= 0
    assert found["parameters", "all"] > found["trained_parameters", "all"] > 0
    with pytest.raises(ConfigError, match=r"the setting cost\.texts is unknown; there are records"):
        run_study({"arms": {"a": {"cost.texts": 3}}, "base": base, "measure": ["cost"]}, folder="odd")
