"""Images from a folder to findings, and what comes after a run: evaluation, explanations, calibration."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.models.findings.decide import FindingCalibration
from jobs import calibrate, evaluate, explain, export, read_images, status
from tests.toys import seen

BOUNDS = {
    "Bright": FindingCalibration(threshold=0.5, lower=0.3, upper=0.7, positives=80, negatives=90),
    "Wide": FindingCalibration().at(0.6),
    "No Finding": FindingCalibration().at(0.5),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a configuration that names it, and a manifest of 60 studies, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    seen.write(folder / "model", BOUNDS)
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "seen.yaml").write_text(f"# A toy.\nsystem: tests.toys.seen\npath: {folder}/model\n")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "exam", "patient", "Bright"])
        table.writeheader()
        for at in range(60):
            level = int(rng.integers(200, 256) if at % 2 else rng.integers(127, 191))
            data = b"?" if at == 7 else seen.picture((16, 24, 8, level))
            (folder / "images" / f"{at}.png").write_bytes(data)
            table.writerow({"path": f"images/{at}.png", "exam": f"e{at}", "patient": f"p{at // 2}", "Bright": at % 2})
    return folder


@pytest.fixture(scope="module")
def words(place):
    return ["--config-dir", str(place / "conf"), "model=seen", "cluster.actors=1"]


@pytest.fixture(scope="module")
def run(place, words):
    where = [f"input.path={place}/manifest.csv", "input.image=path", "input.study=exam", "input.keep=[patient]"]
    assert read_images.main.run([*where, *words, f"output.path={place}/read"]) == 0
    return place / "read"


def table(folder, name):
    rows = pq.read_table(folder / name).to_pylist()
    return {row["record_id"]: row for row in rows}


def test_every_study_has_its_row(run, place, words, capsys):
    rows = table(run, "findings")
    assert set(rows) == {f"e{at}" for at in range(60)}
    assert rows["e7"]["failure"]["kind"] == "not_an_image" and rows["e8"]["patient"] == "p4"
    bright = [row["labels"][0]["pred"] for at in range(60) if (row := rows[f"e{at}"])["labels"]]
    assert bright == [at % 2 for at in range(60) if at != 7]
    (region,) = [each for each in rows["e9"]["evidence"] if each["label"] == "Bright"]
    assert [region[name] for name in ("x0", "y0", "x1", "y1")] == [16, 24, 24, 32]
    assert status.main.run([f"output.path={run}"]) == 0
    said = capsys.readouterr().out
    assert "Positive findings" in said and "Bright" in said and "not_an_image" in said and "finished" in said
    where = [f"input.path={place}/manifest.csv", "input.image=path", "input.study=exam", "input.keep=[patient]"]
    assert read_images.main.run([*where, *words, f"output.path={run}"]) == 0
    assert "Nothing new to do" in capsys.readouterr().out


def test_it_is_exported_with_a_line_for_each_finding(run, place):
    assert export.main.run([f"output.path={run}", f"export.path={place}/read.csv"]) == 0
    with (place / "read.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 59 * 3 + 1
    (line,) = [each for each in lines if each["record_id"] == "e9" and each["finding_name"] == "Bright"]
    assert (line["finding_pred"], line["finding_clear"], line["patient"]) == ("1", "true", "p4")


def test_it_is_measured_against_gold(run, place, capsys):
    order = [f"run={run}", f"gold={place}/manifest.csv", "labels={Bright: Bright}", "group=patient", "rounds=50", "id=exam"]
    assert evaluate.main.run([*order, f"model.path={place}/model", f"output.path={place}/evaluation"]) == 0
    metrics = {(m["metric"], m["slice"]): m["value"] for m in pq.read_table(place / "evaluation" / "metrics").to_pylist()}
    assert metrics["auroc", "label=Bright"] == 1.0 and metrics["f1", "label=Bright"] == 1.0


def test_its_findings_are_explained(run, place):
    order = [f"run={run}", f"model.path={place}/model", "cluster.actors=1", "explain.method=occlusion", "explain.faithfulness=1"]
    assert explain.main.run([*order, "explain.stability=0", "explain.sample=10", f"output.path={place}/explained"]) == 0
    rows = table(place / "explained", "explanations")
    explained = [row for row in rows.values() if row["decision"] == "auto" and row["targets"]]
    assert len(rows) == 60 and explained
    for row in explained:
        target = next((each for each in row["targets"] if each["target_name"] == "Bright"), None)
        if target:
            best = max(target["units"], key=lambda unit: unit["score"])
            assert [best[name] for name in ("x0", "y0", "x1", "y1")] == [16, 24, 24, 32] and target["m_comp_aopc"] > 0


def test_it_is_calibrated_on_labelled_studies(place, words, capsys):
    order = [*words[:3], f"data.path={place}/manifest.csv", "data.image=path", "data.study=exam", "data.group=patient"]
    order += ["data.findings={Bright: Bright}", "sensitivity=0.85", "specificity=0.85", f"output.path={place}/revision"]
    assert calibrate.main.run(order) == 0
    said = capsys.readouterr().out
    assert "Bright, 29 studies with it, 30 without:" in said and f"model.path={place}/revision" in said
    assert calibrate.main.run([*order[:-1], f"output.path={place}/other", "sensitivity=0.99"]) == 2


def test_keys_of_images_are_in_the_help(words, capsys):
    assert read_images.main.run([*words[:3], "--help"]) == 0
    said = capsys.readouterr().out
    for name in ("images.max_pixels", "explain.method", "decision.required", "decision.thresholds", "input.image", "input.study"):
        assert name in said
    assert "input.text" not in said and "text.max_tokens" not in said
