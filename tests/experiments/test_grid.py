"""Every kind of arm on a dozen and a half texts and a tiny encoder; the figures by hand."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.experiments.banked import perplexities
from engine.experiments.compare import flags_of
from engine.experiments.frozen import Answers
from engine.experiments.grid import Grid, GridConfig, against
from engine.experiments.rationale_sets import Marked
from engine.experiments.run import run
from engine.experiments.scored import _erase, figure, label_f1
from tests.experiments.marked import write_abstracts

pytestmark = pytest.mark.timeout(300)
SMALL = {"encoder": "tiny:bert", "width": 8, "window": 24, "epochs": 2, "rounds": 20, "threads": 1, "seeds": (1, 2), "share": 0.6}


@pytest.fixture
def data(tmp_path):
    return write_abstracts(tmp_path / "set", 36)


def rows_of(table):
    return {(row["arm"], row["metric"]): row for row in table.to_pylist()}


def test_a_grid_from_texts_to_its_table_and_on_from_where_it_stopped(tmp_path, data):
    regimes = ("reports", "rationales", "complements")
    config = GridConfig(data, heads=("cls", "dpla0"), regimes=regimes, erased=3, **SMALL)
    said = []
    table = run(Grid(config), tmp_path / "out", "command", said.append)
    found = rows_of(table)
    arms = {arm for arm, _ in found}
    assert len(arms) == 2 * 3 * 2 + 2 * 3 + 2 * 3 + 2
    for head in ("cls", "dpla0"):
        values = [found[f"{head}-rationales-{seed}", "macro_f1"]["value"] for seed in (1, 2)]
        base = [found[f"{head}-reports-{seed}", "macro_f1"]["value"] for seed in (1, 2)]
        mean = found[f"{head}-rationales-mean", "macro_f1"]
        assert (mean["value"], mean["n"]) == (pytest.approx(sum(values) / 2), 2)
        gain = found[f"{head}-rationales-over-reports", "macro_f1_gain"]
        assert gain["value"] == pytest.approx(sum(values) / 2 - sum(base) / 2)
        texts = found[f"{head}-rationales-over-reports", "macro_f1_gain_texts"]
        assert texts["value"] == pytest.approx(gain["value"]) and texts["low"] <= texts["value"] <= texts["high"]
        erased = found[f"{head}-reports-1", "comp_gain"]
        comp, random = (found[f"{head}-reports-1", name]["value"] for name in ("comp", "comp_random"))
        assert erased["n"] == 3 and erased["value"] == pytest.approx(comp - random)
        assert 0 <= found[f"{head}-reports-1", "cov_mass"]["value"] <= 1
    gains = [found[f"{head}-rationales-over-reports", "cov_topk_gain"]["value"] for head in ("dpla0", "cls")]
    assert found["dpla0-rationales-interaction", "cov_topk_gain"]["value"] == pytest.approx(gains[0] - gains[1])
    # What the encoder's first token attends to is the same in every training.
    assert len({found[f"cls-{name}-{seed}", "cov_mass"]["value"] for name in regimes for seed in (1, 2)}) == 1
    assert found["cls-rationales-1", "texts_besides"]["value"] > 0 == found["cls-reports-1", "texts_besides"]["value"]
    (tmp_path / "out" / "arms" / "dpla0-rationales-2.parquet").unlink()
    assert run(Grid(config), tmp_path / "out", "command", said.append).equals(table)
    assert sum(line.endswith("done before") for line in said) == len(arms) - 1


def test_experiments_that_share_states_share_heads_that_were_trained_alike(tmp_path, data):
    shared = {**SMALL, "seeds": (1,), "states": str(tmp_path / "states")}
    said, tables = [], []
    for number, changes in enumerate(({}, {"name": "rationale/ratio"}, {"rate": 1e-2})):
        config = GridConfig(data, heads=("target",), regimes=("reports", "rationales"), **{**shared, **changes})
        tables.append(rows_of(run(Grid(config), tmp_path / str(number), "command", said.append)))
        assert sum(line == "target: trained before" for line in said) == (0, 2, 2)[number]
    values = [{key: row["value"] for key, row in table.items()} for table in tables]
    assert values[0] == values[1] != values[2]


def test_rationales_are_scored_out_of_fold_and_filtered(tmp_path, data):
    regimes = ("reports", "filter.top.0.5", "filter.random.top.0.5", "label_only")
    config = GridConfig(data, heads=("target",), regimes=regimes, folds=2, **{**SMALL, "seeds": (1,)})
    found = rows_of(run(Grid(config), tmp_path / "out", "command", lambda line: None))
    bank = pq.read_table(tmp_path / "out" / "work" / "rationale_bank-target.parquet")
    assert set(bank["fold"].to_pylist()) == {0, 1} and len(bank) == found["target-label_only-1", "texts_besides"]["value"]
    kept = [found[f"target-filter.{name}-1", "texts_besides"]["value"] for name in ("top.0.5", "random.top.0.5")]
    assert kept[0] == kept[1] < len(bank)
    for row in bank.to_pylist():
        assert row["sufficiency"] == pytest.approx(row["report_prob"] - row["rationale_prob"])
        assert row["length"] >= 1 and row["perplexity"] > 1 and -1 <= row["centroid"] <= 1.001 and row["coverage"] >= 0


def test_a_set_with_questions(tmp_path):
    label = ("no significant difference", "significantly decreased", "significantly increased")
    rows = [
        {
            "prompt_id": number,
            "pmcid": f"PMC{number}",
            "split": ("train", "train", "valid", "test")[number % 4],
            "intervention": "Drug",
            "comparator": "placebo",
            "outcome": ("pain", "fever")[number % 2],
            "label": label[number % 3],
            "text": f"We tried a drug. Pain changed by {number} points. It was safe.",
            "evidence": [
                {"start": 17, "end": 17 + len(f"Pain changed by {number} points."), "text": f"Pain changed by {number} points."}
            ],
        }
        for number in range(24)
    ]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set" / "prompts_abstracts.parquet")
    regimes = ("reports", "rationales", "extra", "swap.0.5", "shift.2")
    values = {**SMALL, "seeds": (1,), "window": 48, "share": 0.5}
    config = GridConfig(str(tmp_path / "set"), heads=("target",), regimes=regimes, erased=2, records=5, max_tokens=16, **values)
    found = rows_of(run(Grid(config), tmp_path / "out", "command", lambda line: None))
    for name in regimes:
        assert found[f"target-{name}-1", "accuracy"]["n"] == 5
        assert 0 < found[f"target-{name}-1", "prob"]["value"] < 1
    assert found["target-rationales-1", "texts_besides"]["value"] == found["target-swap.0.5-1", "texts_besides"]["value"] > 0


def test_what_a_regime_is_held_against():
    regimes = ("reports", "rationales", "extra", "complements", "filter.drop_wrong", "filter.random.drop_wrong", "ratio.1")
    assert against("rationales", regimes) == ["reports", "extra"]
    assert against("complements", regimes) == ["reports", "rationales"]
    assert against("filter.drop_wrong", regimes) == ["reports", "rationales", "filter.random.drop_wrong"]
    assert against("filter.random.drop_wrong", regimes) == ["reports", "rationales"]
    assert against("ratio.1", regimes) == against("extra", regimes) == ["reports"]
    assert against("rationales", regimes[:2]) == ["reports"]


def test_mistakes_are_told_before_anything_is_read():
    for said, values in {
        "'best' is none": {"heads": ("best",)},
        "must be among them": {"regimes": ("extra",)},
        "regimes: 'much'": {"regimes": ("reports", "much")},
        "share below 1": {"share": 1.0},
        "at least one seed": {"seeds": ()},
        "sizes.seeds: 1 stands there twice": {"seeds": (1, 2, 1)},
        "grid.heads: cls stands there twice": {"heads": ("cls", "cls")},
        "grid.regimes: extra stands there twice": {"regimes": ("reports", "extra", "extra")},
        "marking teaches token states": {"regimes": ("reports", "marking")},
    }.items():
        with pytest.raises(ConfigError, match=said):
            GridConfig("x", **values)


def test_figures_by_hand():
    rows = pa.table(
        {
            "gold": [[True, False, False], [True, True, False]],
            "given": [[True, False, False], [False, True, False]],
            "comp": [0.5, None],
            "comp_random": [0.1, None],
            "cov_topk": pa.array([None, None], pa.float64()),
        }
    )
    assert figure(rows, "accuracy") == 0.5
    assert label_f1(flags_of(rows, "gold"), flags_of(rows, "given")) == [pytest.approx(2 / 3), 1.0, None]
    assert figure(rows, "macro_f1") == pytest.approx((2 / 3 + 1) / 2)
    # What is given and nobody has moves no denominator.
    given = rows.set_column(1, "given", pa.array([[True, False, True], [False, True, False]]))
    assert figure(given, "macro_f1") == pytest.approx((2 / 3 + 1) / 2)
    assert label_f1(flags_of(given, "gold"), flags_of(given, "given"))[2] is None
    assert figure(rows, "comp_gain") == pytest.approx(0.4) and figure(rows, "cov_topk") is None


def test_the_random_control_of_erased_words_is_the_mean_of_five_draws():
    """A text of two words, of which the head attends to the first alone; its answer is the share of words that say yes."""
    test = [Marked(f"t{n}", f"t{n}", "test", "yes no", ("a",), {}, ()) for n in range(3)]
    asked = []

    class Words:
        def tokens(self, texts):
            of = {"word_of_token": np.arange(2), "word_start": np.array([0, 4]), "word_end": np.array([3, 6])}
            return [SimpleNamespace(**of) for _ in texts]

        def answered(self, learner, table, keep=True, attended=True):
            texts = table["text"].to_pylist()
            asked.append((keep, texts))
            return Answers(np.array([[0.75 if "yes" in text else 0.25, 0.0] for text in texts]), None, [])

    frozen = Words()
    found = Answers(np.array([[0.75, 0.25]] * 3), None, [np.array([1.0, 0.0])] * 3)
    rows = [{} for _ in test]
    _erase(frozen, None, test, pa.table({"text": [each.text for each in test]}), found, rows, 3, 0.6)
    # Three fifths of two words are two, rounded up: nothing is left of either.
    assert asked[0] == (False, ["."] * 3) and [each["comp"] for each in rows] == [0.5] * 3
    asked.clear()
    _erase(frozen, None, test, pa.table({"text": [each.text for each in test]}), found, rows, 3, 0.4)
    assert len(asked) == 6 and asked[0] == (False, [" no"] * 3) and all(keep for keep, _ in asked[1:])
    for number, row in enumerate(rows):
        without = [texts[number] for _, texts in asked[1:]]
        assert row["comp"] == 0.5 and row["comp_random"] == pytest.approx(
            np.mean([0.5 * ("yes" not in text) for text in without])
        )
    assert {row["comp_random"] for row in rows} - {0.0, 0.5}


def test_perplexity_by_hand():
    # Pairs (start, a) and (a, b) once each; words that may follow: a, b and an unknown one.
    assert perplexities(["a b"], ["a", "B"]) == pytest.approx([1 / (2 / 4), 1 / (1 / 4)])
