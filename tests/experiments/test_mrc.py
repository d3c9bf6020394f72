"""Experiments with prompts, whole, on a made-up language and a tiny encoder; and their figures worked by hand."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.errors import ConfigError, RetryableError
from engine.evaluation.spans import measure
from engine.experiments import mrc, mrc_crossover, mrc_efficiency, mrc_plugin, mrc_transfer
from engine.experiments.in_memory import Outcome, prepared
from engine.experiments.mrc import MrcRecipe
from engine.experiments.mrc_ablation import PromptAblation, PromptAblationConfig, SpanAccuracy, SpanAccuracyConfig
from engine.experiments.mrc_backbone import Backbone, BackboneConfig
from engine.experiments.mrc_crossover import Crossover, CrossoverConfig
from engine.experiments.mrc_efficiency import Efficiency, EfficiencyConfig, _logits, figures, in_a_process, open_heads
from engine.experiments.mrc_nested import Nested, NestedConfig, pairs
from engine.experiments.mrc_plugin import PlugAndPlay, PlugAndPlayConfig
from engine.experiments.mrc_templates import AlignmentConfig, AutoTemplateConfig
from engine.experiments.mrc_transfer import Transfer, TransferConfig
from engine.experiments.run import Arm, run
from engine.models.prompt_mrc.build import new_network
from engine.models.prompt_mrc.checkpoint import read_checkpoint
from engine.models.prompt_mrc.config import DataConfig
from engine.models.prompt_mrc.corpus import load_corpus, marked_mentions, members_of
from engine.sources.labelled import Document, Span
from engine.training.loop import Worker
from tests.experiments.prompted import NAMES, TINY, measured
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner

pytestmark = pytest.mark.usefixtures("one_thread")


def test_figures_of_a_type_rest_on_its_own_mentions():
    gold = {"r": [(0, 4, "A"), (5, 9, "A"), (10, 14, "B")]}
    figures = measure(gold, {"r": [(0, 4, "A"), (20, 24, "C")]}, rounds=0)
    found = mrc.results_of(Outcome(figures, [], None, None), ("f1",), ("f1", "recall"))
    # C is found and nowhere marked.
    told = {each.metric: each.n for each in found}
    assert {name: n for name, n in told.items() if ":" in name} == {
        **{"f1:A": 2, "f1:B": 1, "f1:C": 0},
        **{"recall:A": 2, "recall:B": 1, "recall:C": 0},
    }
    assert told["f1"] == 3


def test_ablation_with_means_and_paired_tests(corpora, tmp_path):
    config = PromptAblationConfig(corpora, **TINY, corpora=("one",), seeds=(1, 2), modes=("tagger", "name", "hybrid"))
    values = measured(PromptAblation(config), tmp_path)
    assert 0 <= values["one-tagger-seed1", "error_missed"] <= 1
    for mode in ("tagger", "name", "hybrid"):
        seeds = [values[f"one-{mode}-seed{seed}", "f1"] for seed in (1, 2)]
        assert values[f"one-{mode}-mean", "f1"] == pytest.approx(np.mean(seeds))
    less = values["one-tagger-mean", "f1"] - values["one-name-mean", "f1"]
    assert values["one-tagger-against-name", "f1_difference"] == pytest.approx(less)
    # Over texts it is the mean over both seeds' models that is held against plain MRC's.
    assert values["one-tagger-against-name", "f1_bootstrap"] == pytest.approx(less)
    assert values["one-hybrid-seed1", "trained_parameters"] > values["one-name-seed1", "trained_parameters"]
    assert ("one-hybrid-seed1", "overlap_f1:Disease") in values


def test_every_mode_by_boundaries_and_errors(corpora, tmp_path):
    values = measured(SpanAccuracy(SpanAccuracyConfig(corpora, **TINY, corpora=("one",))), tmp_path)
    modes = ("tagger", "name", "hard", "soft", "hybrid")
    for mode in modes:
        got = {metric: value for (arm, metric), value in values.items() if arm == f"one-{mode}-seed7"}
        assert got["f1"] <= got["overlap_f1"] <= 1 and got["index_both"] <= min(got["index_start"], got["index_end"])
        errors = [value for metric, value in got.items() if metric.startswith("error_")]
        assert len(errors) == 6 and sum(errors) == pytest.approx(1)
        assert {f"start_accuracy:{kind}" for kind in NAMES.values()} <= set(got)
    for mode in set(modes) - {"name"}:
        less = values[f"one-{mode}-seed7", "f1"] - values["one-name-seed7", "f1"]
        assert values[f"one-{mode}-against-name", "f1_bootstrap"] == pytest.approx(less)
        # One seed: nothing is said of seeds.
        assert values[f"one-{mode}-against-name", "f1_p"] is None
    assert not any(arm.endswith("-mean") for arm, _ in values)


def test_prompts_alone_on_a_frozen_encoder_and_swapped(corpora, tmp_path):
    config = PlugAndPlayConfig(corpora, **TINY, corpora=("one", "two"), numbers=(3,), deep_numbers=(2,), prompt_epochs=1.0)
    values = measured(PlugAndPlay(config), tmp_path)
    # Three shared vectors and one a type of width 32 are all that is trained.
    assert values["one-m3", "trained_parameters"] == (3 + 2) * 32
    assert values["two-m3", "trained_parameters"] == (3 + 1) * 32
    # The same with two shared ones at each of two layers.
    assert values["one-deep2", "trained_parameters"] == 2 * (2 + 2) * 32
    assert values["two-deep2", "trained_parameters"] == 2 * (2 + 1) * 32 and ("two-deep2", "f1") in values
    assert ("swap-m3-one-on-two", "f1") in values and ("swap-m3-two-on-one", "f1") in values
    # The control: the base as it is, under the first corpus what the base itself is.
    assert values["one-m0", "trained_parameters"] == 0 and values["one-m0", "f1"] == values["base", "f1"]
    assert values["two-m3", "f1_less"] == pytest.approx(values["two-m3", "f1"] - values["two-m0", "f1"])
    assert 0 < values["swap-m3-two-on-one", "f1_less_p"] <= 1


def test_swapped_prompts_are_decoded_as_the_corpus_own_ones(corpora, tmp_path, monkeypatch):
    experiment = PlugAndPlay(PlugAndPlayConfig(corpora, **TINY, corpora=("one", "two"), numbers=(3,), prompt_epochs=1.0))
    for name in ("base", "one-m0", "two-m0", "one-m3", "two-m3"):
        experiment.measure(Arm(name, 7), tmp_path, lambda line: None)
    for name, match in (("one-m3", 0.123), ("two-m3", 0.321)):
        note = tmp_path / name / mrc.TUNED
        told = json.loads(note.read_text())
        note.write_text(json.dumps({**told, "decoding": {**told["decoding"], "match": match}}))
    used = []
    outcome = mrc_plugin.outcome
    monkeypatch.setattr(
        mrc_plugin, "outcome", lambda made, *rest, **more: used.append(made.decoding) or outcome(made, *rest, **more)
    )
    experiment.measure(Arm("swap-m3-one-on-two", 7), tmp_path, lambda line: None)
    assert [each.match for each in used] == [0.321]


def test_soft_vectors_start_afresh_whatever_their_number(corpora, tmp_path):
    # Two is the number that the base's own settings name, three is another one.
    config = PlugAndPlayConfig(corpora, **TINY, corpora=("one", "two"), numbers=(2, 3))
    experiment = PlugAndPlay(config)
    experiment.measure(Arm("base", 7), tmp_path, lambda line: None)
    for number in config.numbers:
        settings = experiment._settings("one", "hybrid", tmp_path, shared_soft=number)
        model = read_checkpoint(settings["base"])
        made, _ = prepared(settings, mrc.corpus_of(DataConfig(**settings["data"])), Worker())
        fresh = new_network(made.network.config, torch.float32, "eager")
        assert not model.config.is_soft and torch.equal(made.network.soft.shared, fresh.soft.shared)


def test_a_finished_model_is_not_tuned_again_and_says_the_same(corpora, tmp_path, monkeypatch):
    config = MrcRecipe(corpora, **TINY, corpora=("one",))
    settings = mrc.settings_of(config, "one", 1, mode="hard")
    first = mrc.fitted(config, settings, tmp_path, lambda line: None)
    monkeypatch.setattr(mrc, "tuned", lambda learner: pytest.fail("tuned again"))
    again = mrc.fitted(config, settings, tmp_path, lambda line: None)
    assert again.learner.decoding == first.learner.decoding
    assert (again.valid_f1, again.seconds) == (first.valid_f1, first.seconds)


def test_experiments_share_what_is_trained_alike(corpora, tmp_path, monkeypatch):
    config = MrcRecipe(corpora, **TINY, corpora=("one",), states=str(tmp_path / "states"))
    settings = mrc.settings_of(config, "one", 1, mode="hard")
    first = mrc.fitted(config, settings, tmp_path / "a", lambda line: None)
    other = replace(config, eval_share=0.9, rounds=5)
    trains = []
    train = mrc.trained
    monkeypatch.setattr(mrc, "trained", lambda *given: trains.append(1) or train(*given))
    again = mrc.fitted(other, mrc.settings_of(other, "one", 1, mode="hard"), tmp_path / "b", lambda line: None)
    assert not trains and again.seconds == first.seconds
    weights = first.learner.parameters()
    assert all(torch.equal(value, weights[name]) for name, value in again.learner.parameters().items())
    changed = [mrc.settings_of(config, "one", 2, mode="hard"), mrc.settings_of(config, "one", 1, mode="hard", share=0.5)]
    changed += [
        mrc.settings_of(config, "one", 1, mode="hybrid"),
        mrc.settings_of(config, "one", 1, mode="hard", types=("Disease",)),
    ]
    for number, each in enumerate(changed):
        mrc.fitted(config, each, tmp_path / f"c{number}", lambda line: None)
    mrc.fitted(config, settings, tmp_path / "d", lambda line: None, 1e-4)
    assert len(trains) == 5 and "states" not in config.values()


def test_seconds_of_an_epoch_by_hand():
    # 10 steps at 2 a second, 5 at 1 a second: 10 seconds in 1.5 epochs.
    curve = [{"step": 10, "steps_per_second": 2.0, "epoch": 1.0}, {"step": 15, "steps_per_second": 1.0, "epoch": 1.5}]
    assert mrc._seconds(curve) == pytest.approx(10 / 1.5)


def test_crossing_is_the_smallest_share_from_which_soft_stays_ahead(corpora, tmp_path):
    sizes = {"shares": (0.5, 1.0), "depths": (1,), "encoders": ("frozen",)}
    experiment = Crossover(CrossoverConfig(corpora, **TINY, corpora=("one",), **sizes))
    values = measured(experiment, tmp_path)
    assert values["crossing-1-frozen", "f1_soft_less_hard_50"] == pytest.approx(
        values["soft-1-frozen-share50", "f1"] - values["hard-1-frozen-share50", "f1"]
    )


def test_a_tuned_encoder_learns_and_a_frozen_one_does_not(corpora, tmp_path, monkeypatch):
    sizes = {"shares": (1.0,), "depths": (1,), "encoders": ("tuned", "frozen")}
    experiment = Crossover(CrossoverConfig(corpora, **TINY, corpora=("one",), **sizes))
    models = []
    fit = mrc_crossover.fitted
    monkeypatch.setattr(mrc_crossover, "fitted", lambda *given: models.append((fit(*given), given[4])) or models[-1][0])
    values = measured(experiment, tmp_path)
    config = experiment.config
    # Both modes of each: a tuned encoder at the recipe's rate, its soft vectors at their own; a frozen one at one rate for all.
    assert [rate for _, rate in models] == [config.rate] * 2 + [config.frozen_rate] * 2
    assert [each.learner.config.soft_rate == 1.0 for each, _ in models] == [False, False, True, True]
    assert [each.learner.network.config.freeze_encoder for each, _ in models] == [False, False, True, True]
    for mode in ("hard", "soft"):
        counts = [values[f"{mode}-1-{encoder}-share100", "trained_parameters"] for encoder in ("tuned", "frozen")]
        assert counts[0] > counts[1]
    less = values["soft-1-tuned-share100", "f1"] - values["hard-1-tuned-share100", "f1"]
    assert values["crossing-1-tuned", "f1_soft_less_hard_100"] == pytest.approx(less)


def found_by_hand(folder, arm, mentions):
    rows = [{"record_id": name, "start": 0, "end": 4, "type": "Disease", "score": 0.9} for name in mentions]
    (folder / arm).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=mrc._FOUND), folder / arm / "found.parquet")
    (folder.parent / "arms").mkdir(exist_ok=True)
    ece = pa.table({"metric": ["ece"], "value": pa.array([0.1 if rows else None], pa.float64())})
    pq.write_table(ece, folder.parent / "arms" / f"{arm}.parquet")


@pytest.mark.parametrize(
    ("soft", "hard", "crossing", "sure"),
    [
        ((0, 0), (0, 0), None, None),
        ((20, 20), (20, 20), None, None),
        ((2, 18), (3, 2), 1.0, 1.0),
        ((3, 18), (2, 2), 0.5, 1.0),
        ((18, 18), (2, 2), 0.5, 0.5),
        ((18, 2), (2, 3), None, None),
    ],
)
def test_soft_is_ahead_by_value_and_surely_only_where_the_interval_says_so(tmp_path, monkeypatch, soft, hard, crossing, sure):
    gold = {str(number): [(0, 4, "Disease")] for number in range(20)}
    monkeypatch.setattr("engine.experiments.mrc_crossover.gold_of", lambda config, corpus: gold)
    experiment = Crossover(CrossoverConfig("x", shares=(0.5, 1.0), depths=(1,), rounds=500))
    for mode, counts in (("soft", soft), ("hard", hard)):
        for share, count in zip((50, 100), counts, strict=True):
            found_by_hand(tmp_path / "work", f"{mode}-1-frozen-share{share}", list(gold)[:count])
    found = {each.metric: each for each in experiment._crossing(1, "frozen", tmp_path / "work")}
    assert found["crossing_share"].value == crossing and found["crossing_share_sure"].value == sure
    assert "not within these" in found["crossing_share"].note and "50 %, 100 %" in found["crossing_share"].note


def test_transfer_to_a_corpus_never_trained_on(corpora, tmp_path):
    sizes = {"pairs": ("two:Disease=Chemical",), "modes": ("tagger", "hard")}
    values = measured(Transfer(TransferConfig(corpora, **TINY, corpora=("one",), **sizes)), tmp_path)
    lost = values["hard-in-two", "f1"] - (values["hard-on-two", "f1"] or 0.0)
    assert values["hard-on-two", "f1_lost"] == pytest.approx(lost)
    assert ("hard-asked-two", "f1") in values and ("tagger-asked-two", "f1") not in values


def test_transfer_of_a_hybrid_model_asks_the_target_types_own_question(corpora, tmp_path, monkeypatch):
    experiment = Transfer(TransferConfig(corpora, **TINY, corpora=("one",), pairs=("two:Disease=Chemical",), modes=("hybrid",)))
    asked = []
    outcome = mrc_transfer.outcome
    monkeypatch.setattr(mrc_transfer, "outcome", lambda made, *rest: asked.append(made) or outcome(made, *rest))
    values = measured(experiment, tmp_path)
    # The source's Chemical stands for the target's Disease, then its Disease is asked for itself: types by name are in order.
    assert [[made.network.config.types[number] for number in made.types] for made in asked] == [["Chemical"], ["Disease"]]
    for arm in ("hybrid-on-two", "hybrid-asked-two"):
        lost = values["hybrid-in-two", "f1"] - (values[arm, "f1"] or 0.0)
        assert values[arm, "f1_lost"] == pytest.approx(lost) and 0 < values[arm, "f1_lost_p"] <= 1


def test_a_type_never_trained_is_asked_with_the_soft_vectors_of_all(corpora, tmp_path):
    experiment = Transfer(TransferConfig(corpora, **TINY, corpora=("two",), pairs=("one:Chemical=Disease",), modes=("hybrid",)))
    model = experiment._source("hybrid", tmp_path, lambda line: None)
    network, before = model.learner.network, [list(each) for each in model.learner.network.queries]
    experiment._ask(model, ["Chemical"])
    assert network.config.types == ("Disease", "Chemical") and network.queries[:1] == before and network.queries[1] != before[0]
    assert torch.equal(network.soft.of(1)[:2], network.soft.of(0)[:2])
    values = measured(experiment, tmp_path)
    assert ("hybrid-asked-one", "f1") in values and values["hybrid-in-one", "trained_parameters"] > 0


def test_the_same_question_is_not_asked_twice():
    names = [arm.name for arm in Transfer(TransferConfig("x", corpora=("one",), pairs=("two:A=A", "three:B=A"))).arms()]
    assert "hard-asked-three" in names and "hard-asked-two" not in names and "hard-on-two" in names


def test_another_corpus_is_asked_for_its_own_types_alone(corpora, tmp_path):
    config = MrcRecipe(corpora, **TINY, corpora=("one",))
    model = mrc.fitted(config, mrc.settings_of(config, "one", 1, mode="hard"), tmp_path, lambda line: None)
    settings = mrc.settings_of(config, "two", 1)
    made = mrc.on_other(model, settings, mrc.corpus_of(DataConfig(**settings["data"])))
    assert [made.network.config.types[number] for number in made.types] == ["Disease"]


def test_one_pass_for_all_types_is_cheaper_than_one_each(corpora):
    config = EfficiencyConfig(corpora, **TINY, corpora=("one",), records=2, repeats=1, layers=(0,))

    def flops(mode, layers, how):
        rows = {row["metric"]: row["value"] for row in figures(asdict(config), "one", mode, layers, how, 1)}
        assert rows["ms_per_text_alone_p95"] >= rows["ms_per_text_alone_p50"] > 0 and rows["peak_mib_alone"] >= 0
        assert 0 < rows["trained_parameters"] < rows["parameters"]
        return rows["gflops_per_text"]

    tagger, apart, shared = flops("tagger", "0", "together"), flops("hybrid", "0", "apart"), flops("hybrid", "1", "together")
    assert tagger < shared < apart
    many = figures(asdict(config), "one", "hybrid", "1", "together", 2)
    assert [row["metric"] for row in many] == ["ms_per_text_in_many_p50", "ms_per_text_in_many_p95", "peak_mib_in_many"]


def test_models_that_share_layers_are_trained_and_held_against_the_one_that_does_not(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(mrc_efficiency, "in_a_process", lambda *given: [])
    trained = []
    fit = mrc_efficiency.fitted
    monkeypatch.setattr(mrc_efficiency, "fitted", lambda *given: trained.append(fit(*given)) or trained[-1])
    config = EfficiencyConfig(corpora, **TINY, corpora=("one",), modes=("tagger",), shared=(0, 1))
    experiment = Efficiency(config)
    assert [arm.name for arm in experiment.arms()] == ["one-tagger-0-together", "one-hybrid-shared0", "one-hybrid-shared1"]
    table = run(experiment, tmp_path / "out", "command", lambda line: None).to_pylist()
    values = {(row["arm"], row["metric"]): row["value"] for row in table}
    assert [each.learner.network.config.share_layers for each in trained] == [0, 1]
    less = values["one-hybrid-shared1", "f1"] - values["one-hybrid-shared0", "f1"]
    assert values["one-hybrid-shared1", "f1_less"] == pytest.approx(less)
    assert ("one-hybrid-shared0", "f1_less") not in values


def test_heads_open_for_as_many_words_as_are_marked():
    learner = tiny_learner(tiny_config(), World.make(4))
    texts = World.make(4).texts
    words = sum(len(text.split()) for text in texts)
    documents = [Document(str(at), text, (Span(0, 2, "A"), Span(0, 2, "B"))) for at, text in enumerate(texts)]
    share = open_heads(learner.network, documents)
    assert share == pytest.approx(8 / (2 * words))
    tokens = learner.examples.tokens
    for logits in _logits(learner.network, tokens, torch.device("cpu")):
        assert logits.size == 2 * words and (logits > 0).sum() == pytest.approx(8, abs=1)


def test_a_process_that_is_killed_ends_the_measurement():
    assert in_a_process(abs, -3) == 3
    with pytest.raises(RetryableError, match="was killed"):
        in_a_process(os._exit, 9)


def test_nested_pairs_by_hand():
    gold = {"r": [(0, 10, "A"), (0, 4, "A"), (6, 10, "B"), (20, 22, "A")], "s": []}
    found = {each.metric: (each.value, each.n) for each in pairs(gold, {"r": [(0, 10, "A"), (6, 10, "B"), (0, 4, "B")], "s": []})}
    assert found == {"nested_inner_found": (0.5, 2), "nested_outer_found": (1.0, 2), "nested_both_found": (0.5, 2)}


@pytest.mark.parametrize(("share", "counts"), [(0.25, (125, 24)), (0.5, (251, 46))])
def test_nested_pairs_of_the_corpus_are_those_on_the_page(shared_data, share, counts):
    corpus = load_corpus(DataConfig(str(shared_data / "cantemist_es" / "cantemist.parquet"), share=share))
    found = {}
    for split in ("train", "test"):
        gold = marked_mentions(corpus, members_of(corpus, split), corpus.types)
        found[split] = len(gold), pairs(gold, {name: [] for name in gold})[0].n
    assert found == {"train": counts, "test": (300, 70)}


def test_two_of_the_corpora_share_disease_and_the_third_nothing(shared_data):
    config = PlugAndPlayConfig(str(shared_data / "ner_en"))
    swaps = [arm.name for arm in PlugAndPlay(config).arms() if arm.name.startswith("swap-m5-")]
    assert swaps == ["swap-m5-NCBI-disease-on-BC5CDR", "swap-m5-BC5CDR-on-NCBI-disease"]
    assert PlugAndPlay(config)._common("NCBI-disease", "BC5CDR") == ("Disease",)


def test_nested_and_flat_decoding_of_one_model(corpora, tmp_path):
    config = NestedConfig(corpora, **TINY, corpora=("one",))
    values = measured(Nested(NestedConfig(**{**config.values(), "language": "en", "threads": 1})), tmp_path)
    assert ("one-hybrid-nested", "f1") in values and ("one-tagger-flat", "f1") in values


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PromptAblationConfig("x", modes=("hardest",)), "sizes.modes: 'hardest'"),
        (lambda: PromptAblationConfig("x", seeds=(1, 1)), "each once"),
        (lambda: SpanAccuracyConfig("x", seeds=(1, 2)), "sizes.seeds: this experiment takes one"),
        (lambda: NestedConfig("x", seeds=(1, 2)), "sizes.seeds: this experiment takes one"),
        (lambda: CrossoverConfig("x", corpora=("one", "two")), "data.corpora: this experiment takes one"),
        (lambda: TransferConfig("x", corpora=("one", "other")), "data.corpora: this experiment takes one"),
        (lambda: MrcRecipe("x", device="tpu"), "model.device: 'tpu'"),
        (lambda: Backbone(BackboneConfig("x")), "data.texts: "),
        (lambda: PlugAndPlayConfig("x", corpora=("one",)), "two at least"),
        (lambda: PlugAndPlayConfig("x", deep_numbers=(0,)), "deep_numbers: 1 or more"),
        (lambda: CrossoverConfig("x", shares=(0.5, 0.1)), "rising"),
        (lambda: CrossoverConfig("x", encoders=("iced",)), "frozen, tuned"),
        (lambda: TransferConfig("x", pairs=("two",)), "not of the form"),
        (lambda: TransferConfig("x", corpora=("two",), pairs=("two:A=B",)), "a target that is not the source"),
        (lambda: AutoTemplateConfig("x", modes=("soft",)), "only hard and hybrid"),
        (lambda: AlignmentConfig("x", records=0), "at least 1"),
        (lambda: EfficiencyConfig("x", layers=()), "layers at least 0"),
        (lambda: EfficiencyConfig("x", batch_tokens=0), "batch_tokens must be at least 1"),
        (lambda: EfficiencyConfig("x", shared=(2, 0)), "sizes.shared: .* rising"),
    ],
)
def test_wrong_settings_are_refused(make, told):
    with pytest.raises(ConfigError, match=told):
        make()
