"""The study of methods of explanation on a tiny model: sampling by hand, figures against the engine's own calls."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.explain.explain import explain, work_for
from engine.explain.faithfulness import faithfulness
from engine.explain.settings import Measures, Settings
from engine.models.code_explainable import reports
from engine.models.site_classifier.attributable import SiteExplainable
from engine.studies.explaining import spread
from engine.studies.run import Place, Runner
from engine.studies.site_classifier.reports import stratified
from engine.studies.study import study_of
from tests.models.conftest import coder, records, write_tiny

TEXTS = [
    "Colon, sigmoid: adenocarcinoma, pT3 N1. Margins are free.",
    "Lung, left upper lobe. Squamous cell carcinoma of 4.5 cm.",
    "Breast core biopsy. Invasive ductal carcinoma, grade 2.",
    "Prostate needle biopsy. Gleason 3 and 4. Nerves are involved.",
    "Kidney, partial removal. Clear cell carcinoma. No vein is reached.",
    "Skin of the back. Nevus. Nothing else to tell.",
]
IG = "integrated_gradients"
VALUES: dict[str, Any] = {
    "question": "Which method?",
    "system": "site_classifier",
    "fit": "shipped",
    "corpora": {"reports": "reports.parquet"},
    "base": {
        "explain.task": "site",
        "explain.steps": 8,
        "explain.copies": "fp32",
        "explain.perturbations": 2,
        "faithful.draws": 2,
        "steady.records": 2,
        "data.labels": {"site": "site"},
    },
    "arms": {
        "grad_l2": {"explain.method": "grad_l2"},
        "attnlrp": {"explain.method": "attnlrp"},
        IG: {"explain.method": IG, "explain.records": 3},
        "lime": {"explain.method": "lime", "explain.unit": "sentence", "explain.records": 2, "steady.records": 1},
    },
    "measure": ["cost", "faithful", "steady"],
    "compare": [
        {"pairs": [["grad_l2", IG]], "metrics": ["gain"], "over": ["texts"], "ratio": True},
        {"pairs": [["grad_l2", IG]], "metrics": ["cost"], "over": ["seeds"], "ratio": True},
    ],
    "rounds": 20,
}


def _table(count: int = 12) -> pa.Table:
    rows = []
    for number in range(count):
        code, split = ("C18", "C34", "C50", "C61")[number % 4], "test" if number % 2 else "train"
        text = f"{TEXTS[number // 2 % 6]} Nothing else was sent."
        patient = f"{split}{number // 4}"
        rows.append({"record_id": f"r{number}", "patient_id": patient, "split": split, "site": code, "text": text})
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    pq.write_table(_table(), folder / "reports.parquet")
    write_tiny(folder / "model")
    return folder


def _run(folder: Path, output: Path, **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    base = {**VALUES["base"], "model.path": str(folder / "model"), **changes}
    study = study_of("toy/methods", {**VALUES, "base": base})
    rows = Runner(study, Place(str(folder), output, output / "models", threads=1), print).run()
    return {(row["arm"], row["metric"] + row["slice"].removeprefix("all")): row for row in rows.to_pylist()}


@pytest.fixture(scope="module")
def measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    return _run(folder, tmp_path_factory.mktemp("output"))


def test_every_arm_has_every_figure_of_its_own_records(measured: dict[tuple[str, str], dict[str, Any]]) -> None:
    for arm, texts, steady in (("grad_l2", 6, 2), ("attnlrp", 6, 2), (IG, 3, 2), ("lime", 2, 1)):
        assert measured[arm, "gain"]["n"] == texts and measured[arm, "stability"]["n"] == steady
        assert measured[arm, "cost"]["value"] > 0
        assert (measured[arm, "residual"]["value"] is None) == (arm == "grad_l2")


def test_gain_and_sufficiency_are_the_engines_own(measured: dict[tuple[str, str], dict[str, Any]], folder: Path) -> None:
    system = coder(str(folder / "model"), method="none", tasks=())
    model = SiteExplainable(system, "site")
    drawn = [row for row in _table().to_pylist() if row["split"] == "test"]
    ids = pa.array([row["record_id"] for row in drawn])
    batch = reports(system.prepare(records([row["text"] for row in drawn]).set_column(1, "record_id", ids)))
    targets = model.predicted(batch)
    faithful = faithfulness(
        work_for(model, batch, targets, Settings()), explain(model, batch, targets, "grad_l2"), Measures(draws=2)
    )
    checks = [each.checks() for each in faithful if each is not None]
    mean = {name: np.mean([each[name] for each in checks]) for name in ("comp_aopc", "suff_aopc", "random_comp")}
    assert measured["grad_l2", "comprehensiveness"]["value"] == pytest.approx(mean["comp_aopc"], abs=1e-5)
    assert measured["grad_l2", "gain"]["value"] == pytest.approx(mean["comp_aopc"] - mean["random_comp"], abs=1e-5)
    assert measured["grad_l2", "sufficiency"]["value"] == pytest.approx(mean["suff_aopc"], abs=1e-5)


def test_a_ratio_is_over_the_texts_that_both_explain(measured: dict[tuple[str, str], dict[str, Any]]) -> None:
    gain, cost = (measured["grad_l2", f"{name}of {IG}, over {over}"] for name, over in (("gain", "texts"), ("cost", "seeds")))
    assert (gain["n"], cost["n"], cost["low"]) == (3, 1, None)
    assert cost["value"] == pytest.approx(measured["grad_l2", "cost"]["value"] / measured[IG, "cost"]["value"])
    assert not [key for key in measured if ".p" in key[1]]


def test_a_setting_that_nobody_knows_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the setting explain\.metod is unknown; there are tokens_per_pass"):
        _run(folder, tmp_path, **{"explain.metod": "attnlrp"})
    with pytest.raises(ConfigError, match=r"no fit or measure has the setting 'explian\.method'"):
        _run(folder, tmp_path / "part", **{"explian.method": "attnlrp"})
    with pytest.raises(ConfigError, match=r"data\.labels has no task 'histology'"):
        _run(folder, tmp_path / "other", **{"explain.task": "histology"})


def test_places_are_evenly_spaced() -> None:
    assert [spread(*each).tolist() for each in ((3, 6), (4, 4), (1, 5), (0, 5))] == [[1, 3, 5], [0, 1, 2, 3], [2], []]


def test_each_code_gets_its_share_whatever_the_order() -> None:
    codes = ["C50"] * 60 + ["C34"] * 30 + ["C18"] * 10
    whole = pa.table({"record_id": [f"r{number}" for number in range(100)], "site": codes})
    drawn = stratified(whole, "site", 10)
    assert sorted(drawn["site"].to_pylist()) == ["C18"] + ["C34"] * 3 + ["C50"] * 6
    assert stratified(whole.take(list(range(99, -1, -1))), "site", 10).equals(drawn)
    assert len(stratified(whole, "site", 500)) == 100
