"""Experiments with prompts, whole, on a made-up language and a tiny encoder; and their figures worked by hand."""

from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.errors import ConfigError
from engine.experiments import mrc
from engine.experiments.mrc_ablation import PromptAblation, PromptAblationConfig, SpanAccuracyConfig
from engine.experiments.mrc_backbone import Backbone, BackboneConfig, domain_texts
from engine.experiments.mrc_crossover import Crossover, CrossoverConfig
from engine.experiments.mrc_efficiency import EfficiencyConfig, cost
from engine.experiments.mrc_nested import Nested, NestedConfig, pairs
from engine.experiments.mrc_plugin import PlugAndPlay, PlugAndPlayConfig
from engine.experiments.mrc_templates import Alignment, AlignmentConfig, AutoTemplate, AutoTemplateConfig
from engine.experiments.mrc_transfer import Transfer, TransferConfig
from engine.experiments.run import run
from engine.sources.annotated import Document, Span, to_table
from tests.models.prompt_mrc.conftest import World

# Types that have templates: the made-up language's A and B under their names.
NAMES = {"A": "Disease", "B": "Chemical"}
TINY = {"encoder": "tiny:bert", "rank": 2, "window": 80, "match_width": 16, "shared_soft": 2, "type_soft": 1, "epochs": 1.0}
TINY |= {"batch": 8, "rounds": 20, "threads": 1, "precision": "fp32"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    mrc.corpus_of.cache_clear()


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two corpora: `one` with two types, `two` with the first of them."""
    folder = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("one", "two")):
        world, made = World.make(20, seed), []
        for at, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
            kept = [
                Span(span["start"], span["end"], NAMES[span["type"]]) for span in spans if name == "one" or span["type"] == "A"
            ]
            made.append(Document(f"{name}{at}", text, tuple(kept), name, ("train", "train", "train", "valid", "test")[at % 5]))
        pq.write_table(to_table(made), folder / f"{name}.parquet")
    return str(folder)


def measured(experiment, folder):
    table = run(experiment, folder / "out", "command", lambda line: None)
    values = {(row["arm"], row["metric"]): row["value"] for row in table.to_pylist()}
    assert list(dict.fromkeys(row["arm"] for row in table.to_pylist())) == [arm.name for arm in experiment.arms()]
    assert all(value is None or np.isfinite(value) for value in values.values())
    return values


def test_ablation_with_means_and_paired_tests(corpora, tmp_path):
    config = PromptAblationConfig(corpora, **TINY, corpora=("one",), seeds=(1, 2), modes=("tagger", "name", "hybrid"))
    values = measured(PromptAblation(config), tmp_path)
    for mode in ("tagger", "name", "hybrid"):
        seeds = [values[f"one-{mode}-seed{seed}", "f1"] for seed in (1, 2)]
        assert values[f"one-{mode}-mean", "f1"] == pytest.approx(np.mean(seeds))
    less = values["one-tagger-mean", "f1"] - values["one-name-mean", "f1"]
    assert values["one-tagger-against-name", "f1_difference"] == pytest.approx(less)
    assert values["one-hybrid-seed1", "trained_parameters"] > values["one-name-seed1", "trained_parameters"]
    assert ("one-hybrid-seed1", "overlap_f1:Disease") in values


def test_prompts_alone_on_a_frozen_encoder_and_swapped(corpora, tmp_path):
    config = PlugAndPlayConfig(corpora, **TINY, corpora=("one", "two"), numbers=(3,), prompt_epochs=1.0)
    values = measured(PlugAndPlay(config), tmp_path)
    # Three shared vectors and one a type of width 32 are all that is trained.
    assert values["one-m3", "trained_parameters"] == (3 + 2) * 32
    assert values["two-m3", "trained_parameters"] == (3 + 1) * 32
    assert ("swap-m3-one-on-two", "f1") in values and ("swap-m3-two-on-one", "f1") in values


def test_templates_under_one_budget(corpora, tmp_path):
    table = tmp_path / "ontology.csv"
    table.write_text("type,definition\nDisease,what grows on a tree and can be eaten\n")
    config = AutoTemplateConfig(corpora, **TINY, corpora=("one",), ontology=str(table), budget=20)
    values = measured(AutoTemplate(config), tmp_path)
    assert all(values[f"one-hard-{kind}-seed7", "longest_template"] <= 20 for kind in ("manual", "auto", "name"))
    assert values["one-hard-name-seed7", "longest_template"] < values["one-hard-auto-seed7", "longest_template"]


def test_alignment_and_wordings(corpora, tmp_path):
    config = AlignmentConfig(corpora, **TINY, corpora=("one",), records=4, wordings=(1, 2))
    values = measured(Alignment(config), tmp_path)
    shares = [values["one-prompts", f"found:{kind}:by:{prompt}"] for kind in NAMES.values() for prompt in NAMES.values()]
    assert all(0 <= share <= 1 for share in shares)
    spread = abs(values["one-wordings", "f1_wording_1"] - values["one-wordings", "f1_wording_2"])
    assert values["one-wordings", "f1_spread"] == pytest.approx(spread)


def test_crossing_is_the_smallest_share_from_which_soft_stays_ahead(corpora, tmp_path):
    sizes = {"shares": (0.5, 1.0), "depths": (1,), "encoders": ("frozen",)}
    experiment = Crossover(CrossoverConfig(corpora, **TINY, corpora=("one",), **sizes))
    values = measured(experiment, tmp_path)
    assert values["crossing-1-frozen", "f1_soft_less_hard_50"] == pytest.approx(
        values["soft-1-frozen-share50", "f1"] - values["hard-1-frozen-share50", "f1"]
    )
    arms = tmp_path / "by_hand"
    arms.mkdir()
    lead = {("soft", "50"): 0.4, ("hard", "50"): 0.5, ("soft", "100"): 0.7, ("hard", "100"): 0.6}
    for (mode, share), f1 in lead.items():
        rows = [{"metric": "f1", "value": f1}, {"metric": "ece", "value": None}]
        pq.write_table(pa.Table.from_pylist(rows), arms / f"{mode}-1-frozen-share{share}.parquet")
    found = {each.metric: each.value for each in experiment._crossing(1, "frozen", arms)}
    assert found["crossing_share"] == 1.0 and found["f1_soft_less_hard_50"] == pytest.approx(-0.1)


def test_transfer_to_a_corpus_never_trained_on(corpora, tmp_path):
    sizes = {"pairs": ("two:Disease=Chemical",), "modes": ("tagger", "hard")}
    values = measured(Transfer(TransferConfig(corpora, **TINY, corpora=("one",), **sizes)), tmp_path)
    lost = values["hard-in-two", "f1"] - (values["hard-on-two", "f1"] or 0.0)
    assert values["hard-on-two", "f1_lost"] == pytest.approx(lost)
    assert ("hard-asked-two", "f1") in values and ("tagger-asked-two", "f1") not in values


def test_an_adapted_encoder_is_an_encoder(corpora, tmp_path):
    pq.write_table(pa.table({"tokens": [world.split() for world in World.make(120, 5).texts]}), tmp_path / "texts.parquet")
    texts = (str(tmp_path / "texts.parquet"),)
    config = BackboneConfig(corpora, **TINY, corpora=("one",), modes=("hybrid",), texts=texts, adapt_epochs=4.0, adapt_rate=3e-3)
    config = replace(config, encoders=("path:nowhere",))
    values = measured(Backbone(config), tmp_path)
    assert values["one-encoder0-hybrid", "not_run"] is None
    assert values["adapting", "loss_after"] < values["adapting", "loss_before"]
    assert ("one-adapted-hybrid", "f1") in values


def test_texts_of_the_domain_leave_out_what_is_tested_on(tmp_path):
    rows = {"split": ["train", "valid", "test"], "text": ["a", "b", "c"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    pq.write_table(pa.table({"split": ["train", "valid"], "sentences": [["d", "e"], ["f"]]}), tmp_path / "b.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    assert sorted(domain_texts(files, 9)) == ["a", "b", "d e"]
    assert set(domain_texts(files, 2)) < {"a", "b", "d e"}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="no column tokens"):
        domain_texts([str(tmp_path / "c.parquet")], 1)


def test_one_pass_for_all_types_is_cheaper_than_one_each(corpora):
    config = EfficiencyConfig(corpora, **TINY, corpora=("one",), records=2, repeats=1, layers=(0,))

    def flops(mode, layers, how):
        rows = {row["metric"]: row["value"] for row in cost(asdict(config), "one", mode, layers, how)}
        assert rows["ms_per_text_alone_p95"] >= rows["ms_per_text_alone_p50"] > 0
        return rows["gflops_per_text"]

    tagger, apart, shared = flops("tagger", "0", "together"), flops("hybrid", "0", "apart"), flops("hybrid", "1", "together")
    assert tagger < shared < apart


def test_nested_pairs_by_hand():
    gold = {"r": [(0, 10, "A"), (0, 4, "A"), (6, 10, "B"), (20, 22, "A")], "s": []}
    found = {each.metric: (each.value, each.n) for each in pairs(gold, {"r": [(0, 10, "A"), (6, 10, "B"), (0, 4, "B")], "s": []})}
    assert found == {"nested_inner_found": (0.5, 2), "nested_outer_found": (1.0, 2), "nested_both_found": (0.5, 2)}


def test_nested_and_flat_decoding_of_one_model(corpora, tmp_path):
    config = NestedConfig(corpora, **TINY, corpora=("one",))
    values = measured(Nested(NestedConfig(**{**config.values(), "language": "en", "threads": 1})), tmp_path)
    assert ("one-hybrid-nested", "f1") in values and ("one-tagger-flat", "f1") in values


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PromptAblationConfig("x", modes=("hardest",)), "sizes.modes: 'hardest'"),
        (lambda: PromptAblationConfig("x", seeds=(1, 1)), "each once"),
        (lambda: SpanAccuracyConfig("x", seeds=(1, 2)), "takes one seed"),
        (lambda: PlugAndPlayConfig("x", corpora=("one",)), "two at least"),
        (lambda: CrossoverConfig("x", shares=(0.5, 0.1)), "rising"),
        (lambda: CrossoverConfig("x", encoders=("iced",)), "frozen, tuned"),
        (lambda: TransferConfig("x", pairs=("two",)), "not of the form"),
        (lambda: TransferConfig("x", corpora=("two",), pairs=("two:A=B",)), "a target that is not the source"),
        (lambda: AutoTemplateConfig("x", modes=("soft",)), "only hard and hybrid"),
        (lambda: AlignmentConfig("x", records=0), "at least 1"),
        (lambda: EfficiencyConfig("x", layers=()), "layers at least 0"),
    ],
)
def test_wrong_settings_are_refused(make, told):
    with pytest.raises(ConfigError, match=told):
        make()
