"""Revisions of a checkpoint: everything but the calibration stays, byte for byte."""

import json

import pytest

from engine.errors import ConfigError
from engine.models.code_task import TaskCalibration
from engine.models.site_classifier.checkpoint import SHIPPED, read_checkpoint
from tests.models.conftest import revise

CALIBRATION = {
    "site": TaskCalibration(
        1.5, 0.9, {"n": 3}, isotonic=((0.0, 1.0), (0.1, 0.9)), centres=((1.0, 2.5), (0.0, -3.0)), farthest=4.0
    ),
    "histology": TaskCalibration(1.2, 1.01, class_thresholds={"8140/3": 0.75}),
}


def test_a_revision_differs_in_its_calibration_alone(tiny, tmp_path):
    base, folder = read_checkpoint(str(tiny)), tmp_path / "revision"
    digest = revise(base, folder, CALIBRATION, "another card\n")
    revised = read_checkpoint(str(folder))
    assert revised.calibration == CALIBRATION and revised.digest == digest != base.digest
    assert (revised.config, revised.evidence_method, revised.pairs) == (base.config, base.evidence_method, base.pairs)
    for name in ("config.json", "labels.json", "model.safetensors", "tokenizer.json"):
        assert (folder / name).read_bytes() == (tiny / name).read_bytes()
    assert json.loads((folder / "calibration.json").read_text())["revision_of"] == base.digest
    assert read_checkpoint(str(tiny)).digest == base.digest
    assert [path.name for path in tmp_path.iterdir()] == ["revision"]


def test_an_existing_folder_is_refused_and_left_alone(tiny, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(ConfigError, match="exists"):
        revise(read_checkpoint(str(tiny)), folder, CALIBRATION)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_calibration_is_written_as_it_was_read():
    written = json.loads((SHIPPED / "calibration.json").read_text())
    plain = {name: task.to_json() for name, task in read_checkpoint("shipped").calibration.items()}
    assert json.loads(json.dumps(plain)) == written["tasks"]
