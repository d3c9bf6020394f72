"""The comparison of methods, on a tiny model: sampling and sums by hand, faithfulness against the engine's own call."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.errors import ConfigError
from engine.experiments import methods
from engine.experiments.methods import BY_SENTENCE, BY_WORD, Methods, MethodsConfig, spread, stratified, with_residuals
from engine.experiments.run import run
from engine.explain.explain import explain, explained, work_for
from engine.explain.faithfulness import faithfulness
from engine.explain.settings import Measures, Settings
from engine.models.code_explainable import reports
from engine.models.site_classifier.attributable import SiteExplainable
from tests.explain.toys import Linear, docs
from tests.models.conftest import coder, records, write_tiny

TEXTS = [
    "Colon, sigmoid: adenocarcinoma, pT3 N1. Margins are free.",
    "Lung, left upper lobe. Squamous cell carcinoma of 4.5 cm.",
    "Breast core biopsy. Invasive ductal carcinoma, grade 2.",
    "Prostate needle biopsy. Gleason 3 and 4. Nerves are involved.",
    "Kidney, partial removal. Clear cell carcinoma. No vein is reached.",
    "Skin of the back. Nevus. Nothing else to tell.",
]


def silent(line):
    pass


def table(count=12):
    rows = []
    for number in range(count):
        code, split = ("C18", "C34", "C50", "C61")[number % 4], "test" if number % 2 else "train"
        rows.append({"record_id": f"r{number}", "patient_id": f"{split}{number // 4}", "split": split, "site": code})
    # A third sentence, so that two are left to compare where one is masked.
    texts = [f"{text} Nothing else was sent." for text in TEXTS]
    return pa.Table.from_pylist([{**row, "text": texts[row_number // 2 % 6]} for row_number, row in enumerate(rows)])


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    pq.write_table(table(), folder / "reports.parquet")
    return {
        "path": str(folder / "reports.parquet"),
        "model": str(write_tiny(folder / "model")),
        "slow_records": 3,
        "dear_records": 2,
        "steady_records": 2,
        "steady_slow_records": 1,
        "perturbations": 2,
        "steps": 8,
        "draws": 2,
        "rounds": 20,
        "threads": 1,
        "erased_in": "fp32",
    }


@pytest.fixture(scope="module")
def measured(settings, tmp_path_factory):
    """Results by arm and metric."""
    rows = run(Methods(MethodsConfig(**settings)), tmp_path_factory.mktemp("out") / "out", "command", silent).to_pylist()
    return {(row["arm"], row["metric"]): row for row in rows}


def test_every_method_has_its_line(measured):
    arms = {arm for arm, _ in measured}
    assert arms == {
        *(f"{method}-word" for method in (*BY_WORD, "random_units")),
        *(f"{method}-sentence" for method in (*BY_SENTENCE, "random_units")),
    }
    for (arm, metric), row in measured.items():
        assert row["value"] is None or np.isfinite(row["value"]), (arm, metric)
    wanted = {"pooling-word": 6, "occlusion-word": 3, "integrated_gradients-word": 3, "lime-sentence": 2}
    assert {arm: measured[arm, "gain"]["n"] for arm in wanted} == wanted
    assert measured["pooling-word", "stability"]["n"] == 2 and measured["lime-sentence", "stability"]["n"] == 1


def test_gain_and_sufficiency_are_the_engines_own(measured, settings):
    system = coder(settings["model"], method="none", tasks=())
    model = SiteExplainable(system, "site")
    drawn = [row for row in table().to_pylist() if row["split"] == "test"]
    texts, ids = [row["text"] for row in drawn], [row["record_id"] for row in drawn]
    batch = reports(system.prepare(records(texts).set_column(1, "record_id", pa.array(ids))))
    targets = model.predicted(batch)
    found = explain(model, batch, targets, "grad_l2")
    checks = [one.checks() for one in faithfulness(work_for(model, batch, targets, Settings()), found, Measures(draws=2))]
    mean = {name: np.mean([each[name] for each in checks]) for name in ("comp_aopc", "suff_aopc", "random_comp")}
    mine = {metric: measured["grad_l2-word", metric]["value"] for metric in ("gain", "comprehensiveness", "sufficiency")}
    assert mine["comprehensiveness"] == pytest.approx(mean["comp_aopc"], abs=1e-5)
    assert mine["gain"] == pytest.approx(mean["comp_aopc"] - mean["random_comp"], abs=1e-5)
    assert mine["sufficiency"] == pytest.approx(mean["suff_aopc"], abs=1e-5)
    control = measured["random_units-word", "comprehensiveness"]
    assert (control["value"], control["n"]) == (pytest.approx(mean["random_comp"], abs=1e-5), 6)


def test_residuals_stand_where_a_method_splits_the_whole_difference(measured):
    for arm in ("integrated_gradients-word", "gradient_x_input-word", "attnlrp-word", "occlusion-word", "kernel_shap-sentence"):
        assert measured[arm, "residual"]["value"] >= 0
    assert measured["kernel_shap-sentence", "residual"]["value"] < 1e-6
    for arm in ("pooling-word", "attention-word", "grad_l2-word", "random-word"):
        assert measured[arm, "residual"]["value"] is None


def test_costs_are_multiples_of_a_prediction_and_of_the_yardsticks(measured):
    for arm in ("pooling-word", "occlusion-word", "fused-word"):
        cost, its = measured[arm, "cost"]["value"], measured["integrated_gradients-word", "cost"]["value"]
        assert cost > 0
        assert measured[arm, "cost_of_ig"]["value"] == pytest.approx(cost / its)
    assert ("integrated_gradients-word", "cost_of_ig") not in measured and ("lime-sentence", "cost_of_ig") not in measured


def test_methods_are_held_against_the_yardstick_on_its_own_reports(measured, settings):
    assert measured["pooling-word", "gain_of_ig"]["n"] == 3
    experiment = Methods(MethodsConfig(**settings))
    rows = [
        {"member": 1, "group": "a", "ok": True, "comp": 0.5, "random_comp": 0.25, "its_comp": 0.75, "its_random_comp": 0.25},
        {"member": 2, "group": "b", "ok": True, "comp": 0.25, "random_comp": 0.0, "its_comp": 0.5, "its_random_comp": 0.0},
        {"member": 3, "group": "b", "ok": False, "comp": None, "random_comp": None, "its_comp": 9.0, "its_random_comp": 0.0},
    ]
    gain, its = {"comp": 1.0, "random_comp": -1.0}, {"its_comp": 1.0, "its_random_comp": -1.0}
    found = experiment._result("gain_of_ig", rows, gain, its)
    # (0.25 + 0.25) / (0.5 + 0.5), and each patient alone says the same.
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 2)
    assert experiment._result("gain", rows, gain).value == 0.25
    assert experiment._result("nothing", rows[2:], gain).value is None


def test_answers_are_predicted_once_for_all_methods(settings, tmp_path, monkeypatch):
    asked, explained_by = [], []
    predicted, once = SiteExplainable.predicted, methods.explained
    monkeypatch.setattr(SiteExplainable, "predicted", lambda self, batch: asked.append(len(batch)) or predicted(self, batch))
    monkeypatch.setattr(methods, "explained", lambda work, method: explained_by.append(work.records) or once(work, method))
    experiment = Methods(MethodsConfig(**{**settings, "steady_records": 0, "steady_slow_records": 0}))
    rows = {}
    for arm in experiment.arms():
        if arm.name in ("random_units-word", "integrated_gradients-word", "gradient_x_input-word"):
            explained_by.clear()
            rows |= {(arm.name, one.metric): one.value for one in experiment.measure(arm, tmp_path, silent)}
    assert sum(asked) == 6
    # One report to begin with, then each report once; the residual takes no second explanation.
    assert explained_by == [1, 6] and rows["gradient_x_input-word", "residual"] >= 0


def test_a_stopped_run_keeps_the_yardsticks_arm(settings, tmp_path):
    """What later arms are held against is read from the folder, not from memory."""

    class Stopped(Methods):
        def measure(self, arm, work, say):
            if arm.name == "pooling-word" and self.stops:
                raise KeyboardInterrupt
            return super().measure(arm, work, say)

        def arms(self):
            return super().arms()[:3]

    first, second = (Stopped(MethodsConfig(**settings)) for _ in range(2))
    first.stops, second.stops = True, False
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path / "out", "command", silent)
    rows = run(second, tmp_path / "out", "command", silent).to_pylist()
    assert {row["metric"] for row in rows if row["arm"] == "pooling-word"} >= {"gain_of_ig", "cost_of_ig"}


def test_places_are_evenly_spaced():
    assert spread(3, 6).tolist() == [1, 3, 5]
    assert spread(4, 4).tolist() == [0, 1, 2, 3]
    assert spread(1, 5).tolist() == [2]
    assert spread(0, 5).tolist() == []


def test_each_code_gets_its_share_whatever_the_order():
    codes = ["C50"] * 60 + ["C34"] * 30 + ["C18"] * 10
    whole = pa.table({"record_id": [f"r{number}" for number in range(100)], "site": codes})
    drawn = stratified(whole, "site", 10)
    assert sorted(drawn["site"].to_pylist()) == ["C18"] + ["C34"] * 3 + ["C50"] * 6
    turned = stratified(whole.take(list(range(99, -1, -1))), "site", 10)
    assert turned.equals(drawn)
    assert len(stratified(whole, "site", 500)) == 100


def test_settings_name_model_and_reports(settings, tmp_path):
    before = Methods(MethodsConfig(**settings)).settings()
    assert len(before["model_digest"]) == 64 and before["task"] == "site" and "path" not in before
    changed = table().set_column(4, "text", pa.array(["Colon."] * 12))
    pq.write_table(changed, tmp_path / "reports.parquet")
    after = Methods(MethodsConfig(**{**settings, "path": str(tmp_path / "reports.parquet")})).settings()
    assert {name for name in before if before[name] != after[name]} == {"data_digest"}


def test_bad_input_is_refused_in_one_line(settings, tmp_path):
    with pytest.raises(ConfigError, match="name the one task"):
        MethodsConfig(path="x", labels={})
    pq.write_table(table().filter(pa.array([True, False] * 6)), tmp_path / "reports.parquet")
    with pytest.raises(ConfigError, match="no report of test"):
        Methods(MethodsConfig(**{**settings, "path": str(tmp_path / "reports.parquet")})).settings()


@pytest.mark.parametrize("method", ["gradient_x_input", "attnlrp", "grad_l2", "random", "uniform"])
def test_a_residual_added_later_is_the_one_made_at_once(method):
    batch, targets = docs([1, 2, 3], [], [3, 3], [4]), torch.tensor([0, 0, 1, 0])
    whole, without = (
        work_for(Linear([2, -1, 0.5, 0], bias=1, product=True), batch, targets, Settings(residual=residual))
        for residual in (True, False)
    )
    late = with_residuals(without, method, explained(without, method))
    for now, then in zip(explained(whole, method), late, strict=True):
        assert (now.status, now.target_score, now.blank_score, now.residual) == (
            then.status,
            then.target_score,
            then.blank_score,
            then.residual,
        )
        assert now.score.tolist() == then.score.tolist()
