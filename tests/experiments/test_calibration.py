"""Calibration measured on logits that are written by hand in place of a model's."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.experiments.calibration import Calibration, CalibrationConfig
from engine.experiments.run import run
from tests.models.conftest import TASKS, write_tiny

SITES, HISTOLOGIES = (task.labels for task in TASKS)
PER_SPLIT = 240


def silent(line):
    pass


def table():
    """240 reports each of valid and test, two of a patient, every site equally often."""
    rows = []
    for split in ("train", "valid", "test"):
        for number in range(PER_SPLIT if split != "train" else 4):
            site = SITES[number % 4]
            rows.append(
                {
                    "record_id": f"{split}-{number}",
                    "patient_id": f"{split}-{number // 2}",
                    "split": split,
                    "text": f"Colon biopsy, {split} {number}.",
                    "site": site if number or split != "test" else None,
                    "histology": HISTOLOGIES[0],
                }
            )
    return pa.Table.from_pylist(rows)


def logits(wrong):
    """Logit ln 3 for the answer and 0 for the three others, so 1/2 and three times 1/6; `wrong` reports answer the next site."""
    found = np.zeros((PER_SPLIT, 4), np.float32)
    for number in range(PER_SPLIT):
        found[number, (number + (number in wrong)) % 4] = math.log(3)
    return {"site": found, "histology": np.zeros((PER_SPLIT, 3), np.float32)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Results by arm and metric, all arms; in test every sixth report from the second on is wrong, in valid every twelfth."""
    folder = tmp_path_factory.mktemp("calibration")
    pq.write_table(table(), folder / "reports.parquet")
    model = write_tiny(folder / "model", temperature=0.5, threshold=0.9)
    figures = {"accuracy": 0.75, "keepable_share": 0.125, "n": PER_SPLIT - 1}
    digest = json.loads((model / "digest.json").read_text())["digest"]
    (model / "figures.json").write_text(json.dumps({"digest": digest, "tasks": {"site": {"baseline": figures}}}))
    experiment = Calibration(CalibrationConfig(str(folder / "reports.parquet"), str(model), rounds=20))
    (folder / "out").mkdir()
    settings = {"experiment": experiment.name, **experiment.settings()}
    (folder / "out" / "settings.json").write_text(json.dumps({"settings": settings}))
    work = folder / "out" / "work"
    work.mkdir()
    np.savez(experiment._file("valid", work), **logits(set(range(0, PER_SPLIT, 12))))
    np.savez(experiment._file("test", work), **logits(set(range(1, PER_SPLIT, 6))))
    rows = run(experiment, folder / "out", "command", silent).to_pylist()
    return {(row["arm"], row["metric"]): row for row in rows}


def test_without_calibration_the_stated_probability_is_the_softmax(measured):
    n, right = PER_SPLIT - 1, (PER_SPLIT - 1 - 40) / (PER_SPLIT - 1)
    accuracy = measured["site-uncalibrated", "accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(right), n)
    assert accuracy["low"] < right < accuracy["high"]
    # Every report says 1/2; each of 15 bins errs to the same side, so the error is the difference of the means.
    assert measured["site-uncalibrated", "ece"]["value"] == pytest.approx(right - 0.5, abs=1e-6)
    # Right: (1 - 1/2)^2 + 3 / 36; wrong: (1/2)^2 + (1 - 1/6)^2 + 2 / 36.
    brier = right * (1 / 4 + 3 / 36) + (1 - right) * (1 / 4 + 25 / 36 + 2 / 36)
    assert measured["site-uncalibrated", "brier"]["value"] == pytest.approx(brier, abs=1e-6)
    assert measured["site-uncalibrated", "temperature"]["value"] == 1


def test_the_temperature_is_the_one_that_says_what_was_right_on_valid(measured):
    # 220 of 240 right on valid: exp(ln 3 / T) / (exp(ln 3 / T) + 3) = 11/12, so T = ln 3 / ln 33.
    assert measured["site-temperature", "temperature"]["value"] == pytest.approx(math.log(3) / math.log(33), abs=1e-4)
    right = 199 / 239
    assert measured["site-temperature", "ece"]["value"] == pytest.approx(11 / 12 - right, abs=1e-3)
    assert measured["site-temperature", "accuracy"]["value"] == pytest.approx(right)


def test_nothing_is_kept_where_valid_cannot_prove_the_target(measured):
    for way in ("uncalibrated", "temperature", "isotonic"):
        assert measured[f"site-{way}", "threshold"]["value"] is None
        assert measured[f"site-{way}", "coverage"]["value"] == 0
        assert measured[f"site-{way}", "accuracy_kept"]["value"] is None


def test_the_checkpoints_own_calibration_is_taken_as_it_stands(measured):
    # T = 1/2 says 9 / (9 + 3) = 3/4, under its own threshold of 0.9.
    assert measured["site-checkpoint", "temperature"]["value"] == 0.5
    assert measured["site-checkpoint", "threshold"]["value"] == pytest.approx(0.9)
    assert measured["site-checkpoint", "ece"]["value"] == pytest.approx(199 / 239 - 0.75, abs=1e-6)
    assert measured["site-checkpoint", "coverage"]["value"] == 0


def test_a_sure_and_right_model_is_kept_whole(tmp_path):
    pq.write_table(table(), tmp_path / "reports.parquet")
    model = write_tiny(tmp_path / "model")
    experiment = Calibration(CalibrationConfig(str(tmp_path / "reports.parquet"), str(model), rounds=20))
    np.savez(experiment._file("valid", tmp_path), **logits(set()))
    np.savez(experiment._file("test", tmp_path), **logits({3}))
    found = {one.metric: one for one in experiment.measure(experiment.arms()[0], tmp_path, silent)}
    # 240 without an error prove 98 %; of the 239 labelled test reports one is wrong.
    assert found["threshold"].value == pytest.approx(0.5)
    assert found["coverage"].value == 1
    assert (found["accuracy_kept"].value, found["accuracy_kept"].n) == (pytest.approx(238 / 239), 239)
    assert found["coverage_best"].value == 1


def test_the_rivals_figures_come_from_the_checkpoint_if_they_are_of_these_reports(measured):
    assert measured["site-tfidf", "accuracy"]["value"] == 0.75
    assert measured["site-tfidf", "coverage_best"]["value"] == 0.125
    assert not any(arm == "histology-tfidf" for arm, _ in measured)


def test_a_tiny_model_predicts_once_for_all_arms(tmp_path):
    short = table().filter(pa.array([i % 30 == 0 for i in range(len(table()))]))
    pq.write_table(short, tmp_path / "reports.parquet")
    model, said = write_tiny(tmp_path / "model"), []
    experiment = Calibration(CalibrationConfig(str(tmp_path / "reports.parquet"), str(model), rounds=20, threads=1))
    rows = run(experiment, tmp_path / "out", "command", said.append).to_pylist()
    assert sum(line.startswith("predicting") for line in said) == 2
    assert {row["arm"] for row in rows} == {
        f"{task}-{way}" for task in ("site", "histology") for way in ("uncalibrated", "temperature", "isotonic", "checkpoint")
    }
    assert all(0 <= row["value"] <= 1 for row in rows if row["metric"] in ("accuracy", "ece", "coverage"))


def test_a_folder_belongs_to_its_reports_and_columns(tmp_path):
    model = write_tiny(tmp_path / "model")

    def made(reports, **values):
        pq.write_table(reports, tmp_path / "reports.parquet")
        return Calibration(CalibrationConfig(str(tmp_path / "reports.parquet"), str(model), **values))

    first = made(table())
    before, file = first.settings(), first._file("test", tmp_path)
    turned = made(table().take(list(range(len(table())))[::-1]))
    assert {name for name, value in turned.settings().items() if value != before[name]} == {"data_digest"}
    assert turned._file("test", tmp_path) != file
    told = table().append_column("second", table()["site"])
    other = made(told, labels={"site": "second", "histology": "histology"}).settings()
    assert {name for name, value in other.items() if value != before[name]} == {"columns"}


def test_a_split_without_reports_is_refused(tmp_path):
    pq.write_table(table().slice(0, 10), tmp_path / "reports.parquet")
    with pytest.raises(ConfigError, match="no labelled report of test"):
        Calibration(CalibrationConfig(str(tmp_path / "reports.parquet"), str(write_tiny(tmp_path / "model")))).settings()
