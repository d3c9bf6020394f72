"""Models trained whole on a dozen and a half texts and a tiny encoder; token weights of several windows by hand."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from engine.errors import ConfigError
from engine.experiments.frozen import Frozen
from engine.experiments.grid import Grid, GridConfig, against
from engine.experiments.rationale_sets import TASK
from engine.experiments.regimes import Regime
from engine.experiments.run import run
from engine.experiments.whole import Headline, HeadlineConfig, Whole
from engine.models.tokens import collate
from engine.text.windows import window_bounds
from tests.experiments.marked import write_abstracts

pytestmark = pytest.mark.timeout(300)
SMALL = {"encoder": "tiny:bert", "window": 12, "epochs": 2, "rounds": 20, "threads": 1, "seeds": (1,), "share": 0.6, "rate": 3e-3}


@pytest.fixture
def data(tmp_path):
    return write_abstracts(tmp_path / "set", 36)


@pytest.fixture
def whole(data, tmp_path):
    """Makes what is trained of a work folder, by default one of its own."""
    numbers = iter(range(99))

    def make(work=None, say=lambda line: None, **changes):
        work = work or tmp_path / f"work{next(numbers)}"
        return Whole(HeadlineConfig(data, **{**SMALL, "rank": 4, **changes}), work, say)

    return make


def trained(made, head="target", seed=1, **how):
    return made.learned(head, pa.concat_tables([made.texts.base, made.texts.held]), seed, **how)


def parameters(learner):
    return {name: value.detach().clone() for name, value in learner.network.named_parameters()}


def test_a_grid_from_texts_to_its_table_and_on_from_where_it_stopped(tmp_path, data):
    regimes = ("reports", "rationales", "marking")
    config = HeadlineConfig(data, heads=("target", "cls"), regimes=regimes, erased=2, rank=4, **SMALL)
    said = []
    table = run(Headline(config), tmp_path / "out", "command", said.append)
    found = {(row["arm"], row["metric"]): row["value"] for row in table.to_pylist()}
    test = sum(row["split"] == "test" for row in pq.read_table(f"{data}/hoc.parquet").to_pylist())
    assert {row["n"] for row in table.to_pylist() if row["metric"] == "accuracy" and row["arm"].endswith("-1")} == {test}
    for head in config.heads:
        for name in regimes:
            assert 0 <= found[f"{head}-{name}-1", "macro_f1"] <= 1 and 0 <= found[f"{head}-{name}-1", "cov_mass"] <= 1
        assert found[f"{head}-marking-1", "texts_besides"] == 0 < found[f"{head}-rationales-1", "texts_besides"]
        # The same texts and first weights: the second question alone parts them.
        assert found[f"{head}-marking-1", "prob"] != found[f"{head}-reports-1", "prob"]
        gain = found[f"{head}-marking-over-rationales", "prob_gain"]
        assert gain == pytest.approx(found[f"{head}-marking-1", "prob"] - found[f"{head}-rationales-1", "prob"])
    # What the first token attends to is the encoder's own, and that was trained.
    assert len({found[f"cls-{name}-1", "cov_mass"] for name in regimes}) == len(regimes)
    assert sum(line.startswith("epoch 2 of 2: ") for line in said) == 2 * len(regimes)
    assert not list((tmp_path / "out" / "work" / "training").iterdir())
    (tmp_path / "out" / "arms" / "target-marking-1.parquet").unlink()
    assert run(Headline(config), tmp_path / "out", "command", said.append).equals(table)
    assert said.count("target: trained before") == 1


def test_further_regimes_are_those_of_the_other_experiments(tmp_path, data):
    regimes = ("reports", "filter.top.0.5", "complements", "extra")
    config = HeadlineConfig(data, heads=("target",), regimes=regimes, folds=2, rank=4, **{**SMALL, "share": 0.4})
    table = run(Headline(config), tmp_path / "out", "command", lambda line: None)
    bank = pq.read_table(tmp_path / "out" / "work" / "rationale_bank-target.parquet")
    kept = {row["arm"]: row["value"] for row in table.to_pylist() if row["metric"] == "texts_besides"}
    assert 0 == kept["target-reports-1"] < kept["target-filter.top.0.5-1"] < len(bank)
    assert kept["target-complements-1"] > 0 and kept["target-extra-1"] == len(bank)


def test_the_adapter_is_trained_the_encoder_under_it_is_not_and_marks_change_what_is_learned(whole):
    before, plain, marked = whole(rate=1e-9), whole(), whole()
    first, after, asked = (
        parameters(trained(made, **how)) for made, how in ((before, {}), (plain, {}), (marked, {"marking": 0.5}))
    )
    adapted = {name for name in first if name.startswith("encoder.") and name.endswith((".down", ".up"))}
    fixed = {name for name in first if name.startswith("encoder.")} - adapted
    assert adapted and fixed and all(torch.equal(first[name], after[name]) for name in fixed)
    ups = [name for name in adapted if name.endswith(".up")]
    assert all(float(first[name].abs().max()) < 1e-6 for name in ups)
    # The last layer's attention reaches the head; so does every layer below it.
    assert all(float(after[name].abs().max()) > 1e-4 for name in ups)
    assert any(not torch.allclose(after[name], asked[name], atol=1e-4) for name in ups)
    (kept,) = plain.folder.iterdir()
    assert set(load_file(kept)) == set(first) - fixed


def test_marks_of_the_training_texts_are_there_to_be_asked_for(whole):
    made = whole()
    examples = made.examples(made.texts.base)
    assert all(
        (flags is not None and flags.any()) == bool(examples.labels[TASK][row].any()) for row, flags in enumerate(examples.marked)
    )
    terms = [terms for terms, _ in trained(made, marking=0.5).losses(list(range(6)), 0)]
    assert sum(float(each["marks"].detach()) for each in terms) > 0
    assert "marks" not in next(trained(made).losses([0], 0))[0]


def test_a_training_that_was_killed_goes_on_and_ends_where_it_would_have(whole, tmp_path):
    said = []

    def killed(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(whole(tmp_path / "work", killed), marking=0.5)
    found = parameters(trained(whole(tmp_path / "work", said.append), marking=0.5))
    assert [line.split(":")[0] for line in said] == ["epoch 2 of 2", "target"]
    expected = parameters(trained(whole(), marking=0.5))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_was_trained_is_found_again_by_other_experiments_if_it_was_trained_alike(whole, tmp_path):
    said, shared = [], {"states": str(tmp_path / "states"), "epochs": 0.5}
    first = trained(whole(say=said.append, **shared))
    for changes, more in (({"rank": 2}, {}), ({"windows": 1}, {}), ({"window": 16}, {}), ({}, {"marking": 0.5})):
        trained(whole(say=said.append, **shared, **changes), **more)
    assert "target: trained before" not in said
    again = parameters(trained(whole(say=said.append, erased=5, **shared)))
    assert said[-1] == "target: trained before"
    assert all(torch.equal(again[name], value) for name, value in parameters(first).items())


def test_token_weights_of_several_windows_stand_where_their_tokens_do(whole):
    made = whole()
    learner = trained(made)
    network, test = learner.network, made.texts.held.filter(pc.equal(made.texts.held["split"], "test"))
    ids = made.examples(test).ids
    found = made.answered(learner, test)
    assert min(map(len, ids)) > made.config.window and max(map(len, ids)) > 2 * made.config.window
    for row, tokens in enumerate(ids):
        with torch.no_grad():
            parts = []
            for start, stop in window_bounds(len(tokens), made.config.window):
                batch = collate([0], [tokens[start:stop]], window=made.config.window, special=network.config.special)
                parts.append(network.encode(batch)[0, 1:-1])
            states, pool = torch.cat(parts), network.pools[TASK]
            weight = torch.softmax(functional.elu(pool.key(states)) @ pool.query / states.shape[1] ** 0.5, 0)
            context = weight @ functional.elu(pool.value(states))
            probs = torch.sigmoid(network.heads[TASK](context))
        assert found.weights[row] == pytest.approx(weight.numpy(), abs=1e-5) and found.weights[row].sum() == pytest.approx(1)
        assert found.probs[row] == pytest.approx(probs.numpy(), abs=1e-5)
        assert found.given[row].tolist() == (probs.numpy() > 0.5).tolist()


def test_weights_of_dpla_lie_on_a_text_and_those_of_cls_are_the_trained_encoders(whole):
    for changes, windows in (({}, 3), ({"window": 254}, 1)):
        made = whole(**changes)
        test = made.texts.held.filter(pc.equal(made.texts.held["split"], "test"))
        sums = [each.sum() for each in made.answered(trained(made, "dpla"), test).weights]
        assert sums == pytest.approx([1] * len(sums))
        learner = trained(made, "cls")
        ids, found = made.examples(test).ids, made.answered(learner, test)
        bounds = window_bounds(len(ids[0]), made.config.window)
        assert len(bounds) >= windows and (len(bounds) == 1) == (windows == 1)
        for start, stop in bounds:
            batch = collate([0], [ids[0][start:stop]], window=254, special=learner.special)
            own = learner.network.first_attention(batch)[0, 1:-1].numpy()
            assert found.weights[0][start:stop] == pytest.approx(own, abs=1e-5) and 0 < own.sum() < 1
        assert not made.answered(learner, test, keep=False).weights[0].any()


def test_what_a_frozen_encoder_cannot_show_and_a_whole_one_has_no_use_for(data):
    assert HeadlineConfig(data).regime("marking") == Regime("marking", 0.5)
    assert HeadlineConfig(data).regime("ratio.2") == Regime("ratio", 2.0)
    assert against("marking", HeadlineConfig.regimes, HeadlineConfig(data).regime) == ["reports", "rationales"]
    for said, kind, values in (
        (r"marking teaches token states.*learn\.marking", GridConfig, {"regimes": ("reports", "marking")}),
        ("grid.width: .*whole states", HeadlineConfig, {"width": 64}),
        ("sizes.rank: .*at least 1", HeadlineConfig, {"rank": 0}),
        ("regimes: 'much'", HeadlineConfig, {"regimes": ("reports", "much")}),
        ("must be among them", HeadlineConfig, {"regimes": ("marking",)}),
        ("stands there twice", HeadlineConfig, {"regimes": ("reports", "marking", "marking")}),
    ):
        with pytest.raises(ConfigError, match=said):
            kind(data, **values)
    assert type(Grid(GridConfig(data))._heads(None, print)) is Frozen
