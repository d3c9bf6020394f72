"""Studies of small models on a few dozen invented abstracts: heads, adapted models, filters and erased words."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from engine.errors import ConfigError
from engine.studies.marked_sets import MarkedText
from engine.studies.regimes import Regime
from engine.studies.run import Place, Runner
from engine.studies.site_classifier import erased, sufficiency
from engine.studies.site_classifier.adapted import Adapted
from engine.studies.site_classifier.trained import Answers
from engine.studies.study import Study, study_of
from tests.studies.marked import VESSEL, write_abstracts

pytestmark = pytest.mark.timeout(300)
BASE = {"model.encoder": "tiny:bert", "model.window": 24, "model.head": "target", "train.epochs": 2, "data.share": 0.6}
VALUES: dict[str, Any] = {
    "question": "Do rationales help?",
    "system": "site_classifier",
    "fit": "heads",
    "corpora": {"hoc": "set/hoc.parquet"},
    "seeds": [1, 2],
    "measure": ["codes"],
    "rounds": 20,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_abstracts(folder / "set", 36)
    return str(folder)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def study(base: dict[str, Any], arms: dict[str, Any], **more: Any) -> Study:
    return study_of("rationales/small", {**VALUES, "base": {**BASE, **base}, "arms": arms, **more})


def run(study: Study, data, output, models, lines=None):
    rows = Runner(study, Place(data, output, models, 1, False), (lines if lines is not None else []).append).run()
    return {(row["arm"], row["seed"], row["metric"], row["slice"]): row["value"] for row in rows.to_pylist()}


def test_heads_share_states_and_what_was_trained_alike(tmp_path, data):
    arms = {"reports": {}, "rationales": {"data.regime": "rationales"}, "cls": {"model.head": "cls"}}
    small = study({"model.width": 8, "erase.texts": 3}, arms, measure=["codes", "erased"],
                  compare=[{"with": "reports", "metrics": ["macro_f1"]}])  # fmt: skip
    values = run(small, data, tmp_path / "one", tmp_path / "models")
    for arm in arms:
        assert 0 <= values[arm, 1, "macro_f1", "all"] <= 1 and 0 <= values[arm, 1, "mass", "all"] <= 1
        falls = [values[arm, 1, f"comprehensiveness{what}", "all"] for what in ("", "_random", "_gain")]
        assert falls[2] == pytest.approx(falls[0] - falls[1])
    # What the encoder's first token attends to is the same in every training.
    assert values["cls", 1, "mass", "all"] == values["cls", 2, "mass", "all"] != values["reports", 1, "mass", "all"]
    assert values["rationales", 1, "texts", "all"] > 0 == values["reports", 1, "texts", "all"]
    gain = np.mean(
        [values["rationales", seed, "macro_f1", "all"] - values["reports", seed, "macro_f1", "all"] for seed in (1, 2)]
    )
    for over in ("seeds", "texts"):
        assert values["rationales", None, "macro_f1", f"less reports, over {over}"] == pytest.approx(gain)
    lines: list[str] = []
    other = study({"model.width": 8}, {"more": {"data.regime": "rationales"}, "faster": {"train.rate": 1e-2}})
    again = run(other, data, tmp_path / "two", tmp_path / "models", lines)
    assert sum("trained before" in line for line in lines) == 2
    assert again["more", 1, "macro_f1", "all"] == values["rationales", 1, "macro_f1", "all"]
    assert len(list((tmp_path / "models").glob("states-*"))) == 1


def test_a_filter_and_its_random_twin_keep_as_many(tmp_path, data):
    top = {"data.regime": "filter", "data.rule": "top", "data.amount": 0.5, "data.folds": 2, "data.share": 0.4}
    arms = {"top": top, "random.top": {**top, "data.random": True}, "few": {"data.regime": "few", "data.classes": [VESSEL]}}
    values = run(study({"model.width": 8}, arms, seeds=[1]), data, tmp_path / "out", tmp_path / "models")
    assert values["top", 1, "texts", "all"] == values["random.top", 1, "texts", "all"] > 0
    assert 0 <= values["few", 1, f"f1_{VESSEL}", "all"] <= 1


def test_rules_by_hand():
    """Four rationales of C18 with sufficiency 0.5, 0.1, -0.1, 0.3, two of C34 with 0.0 and 0.6; two bring another label alone."""
    ids, labels = [f"r{number}" for number in range(6)], np.array(["C18"] * 4 + ["C34"] * 2, dtype=object)
    values, says = np.array([0.5, 0.1, -0.1, 0.3, 0.0, 0.6]), np.array(["C34", *["C18"] * 3, "C34", "C18"], dtype=object)
    for rule, amount, expected in (
        ("drop_wrong", 0, [1, 2, 3, 4]),
        ("at_most", 0, [2, 4]),
        ("at_most", 0.2, [1, 2, 4]),
        ("top", 0.5, [1, 2, 4]),
        ("top", 0.25, [2, 4]),
    ):
        keep = sufficiency._select(Regime("filter", amount, rule=rule), ids, labels, values, says)
        assert np.flatnonzero(keep).tolist() == expected
    for rule, amount in (("best", 0.5), ("top", 2)):
        with pytest.raises(ConfigError, match=r"data\.rule"):
            sufficiency._select(Regime("filter", amount, rule=rule), ids, labels, values, says)


def test_folds_hold_a_group_together_and_are_refused_where_one_would_be_empty():
    labels, groups = ["C18", "C34", "C50", "C61"] * 25 + ["C73"], [f"p{number // 2}" for number in range(101)]
    folds = sufficiency.fold(labels, groups, 5)
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3, 4]
    assert all(folds[2 * number] == folds[2 * number + 1] for number in range(50))
    for few in ((["a", "b"], ["1", "2"]), (["a"] * 6, ["1"] * 6)):
        with pytest.raises(ConfigError, match=r"data\.folds"):
            sufficiency.fold(*few, 3)


def test_an_adapted_model_learns_marks_and_goes_on_where_it_was_stopped(tmp_path, data, monkeypatch):
    base = {"model.rank": 4, "model.window": 12, "train.rate": 3e-3}
    arms = {"reports": {}, "marking": {"learn.marking": 0.5}}
    small = study(base, arms, fit="adapted", seeds=[1])
    lines: list[str] = []
    values = run(small, data, tmp_path / "one", tmp_path / "models", lines)
    # The same texts and first weights: the second question alone makes the difference.
    assert values["marking", 1, "probability", "all"] != values["reports", 1, "probability", "all"]
    assert values["marking", 1, "texts", "all"] == 0 and sum("epoch 2 of 2" in line for line in lines) == 2
    report = Adapted.report

    def stop(self, row):
        report(self, row)
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Adapted, "report", stop)
    with pytest.raises(KeyboardInterrupt):
        run(small, data, tmp_path / "two", tmp_path / "others")
    monkeypatch.setattr(Adapted, "report", report)
    lines = []
    again = run(study(base, {"reports": {}}, fit="adapted", seeds=[1]), data, tmp_path / "three", tmp_path / "others", lines)
    assert not any("epoch 1 of 2" in line for line in lines)
    assert again["reports", 1, "probability", "all"] == values["reports", 1, "probability", "all"]


@pytest.mark.parametrize(
    ("settings", "message"), [({"learn.marking": 0.5}, "learn.marking"), ({"data.regimes": "extra"}, "data.regimes")]
)
def test_settings_that_heads_have_no_use_for_are_refused(settings, message, tmp_path, data):
    with pytest.raises(ConfigError, match=f"'{message}' is no setting of this fit"):
        run(study(settings, {"one": {}}), data, tmp_path / "out", tmp_path / "models")


def test_the_random_control_of_erased_words_is_the_mean_of_five_draws():
    """A text of two words, of which the head attends to the first alone; its answer is the share of words that say yes."""
    test = [MarkedText(f"t{number}", f"t{number}", "test", "yes no", ("a",), {}, ()) for number in range(3)]
    asked = []

    class Words:
        settings: ClassVar[dict[str, float]] = {"erase.texts": 3, "erase.share": 0.4}
        texts = SimpleNamespace(test=test, examples=lambda some: pa.table({"text": [each.text for each in some]}))

        @property
        def corpus(self):
            of = {"word_of_token": np.arange(2), "word_start": np.array([0, 4]), "word_end": np.array([3, 6])}
            return SimpleNamespace(tokens=lambda texts: [SimpleNamespace(**of) for _ in texts])

        def answers(self, table, keep=True, attention=True):
            texts = table["text"].to_pylist()
            asked.append((keep, texts))
            probs = np.array([[0.75 if "yes" in text else 0.25, 0.0] for text in texts])
            return Answers(probs, probs > 0.5, [np.array([1.0, 0.0])] * len(texts))

    falls = erased._falls(Words())
    assert asked[1] == (False, [" no"] * 3) and len(asked) == 7 and all(keep for keep, _ in asked[2:])
    for number, (fall, by_chance, gain) in falls.items():
        expected = np.mean([0.5 * ("yes" not in texts[number]) for _, texts in asked[2:]])
        assert (fall, by_chance, gain) == (0.5, pytest.approx(expected), pytest.approx(0.5 - expected))
    assert {by_chance for _, by_chance, _ in falls.values()} - {0.0, 0.5}
    Words.settings = {"erase.texts": 3, "erase.share": 0.6}
    asked.clear()
    # Three fifths of two words are two, rounded up: nothing is left of either.
    assert all(fall == 0.5 for fall, _, _ in erased._falls(Words()).values()) and asked[1] == (False, ["."] * 3)
