"""The folder for another machine, and the check on it as there: by itself, without our packages and without network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.benchmarks import gpu_check, gpu_folder
from engine.errors import ConfigError
from engine.models.base import systems
from jobs import gpu_check as door

WITHOUT = Path(__file__).with_name("without.py")


def check(folder: Path) -> tuple[int, str, dict]:
    """Runs the folder's script as on a machine that has little; exit code, what it printed, its report."""
    command = [sys.executable, str(WITHOUT), str(folder / "gpu_check.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert (folder / gpu_check.REPORT).exists(), done.stdout + done.stderr
    return done.returncode, done.stdout, json.loads((folder / gpu_check.REPORT).read_text())


def plant(folder: Path, name: str) -> None:
    """Makes the first answer expected of a system another one, of which it is sure."""
    path = folder / f"{name}.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["decision"] = "planted"
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    manifest = json.loads((folder / gpu_check.MANIFEST).read_text())
    manifest["systems"][name]["unsure"].pop(rows[0]["record_id"], None)
    (folder / gpu_check.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_check_passes_on_a_processor_and_finds_a_wrong_answer(tmp_path):
    folder = tmp_path / "gpu check"
    assert door.main.run([f"output.path={folder}", "texts=5"]) == 0
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 45e6
    assert not list(folder.glob("engine/**/shipped")) and not (folder / "engine" / "pipeline").exists()
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    code, message, report = check(whole)
    assert (code, report["passed"]) == (0, True), message
    assert set(report["systems"]) == {name.rpartition(".")[2] for name in systems()}
    for name, each in report["systems"].items():
        assert each["rows"] == gpu_check.ON_PROCESSOR[0] and each["different"] == [] and each["largest"] <= 0.02
        assert each["tokens_a_second"] > 0 and each["share_of_peak"] > 0 and each["evidence_costs"] > 0.5
        assert each["memory_mib"] > 100 and {"the same answers", "out of memory"} < set(each["checks"])
        plant(folder, name)
    code, message, report = check(folder)
    assert (code, report["passed"]) == (1, False), message
    for each in report["systems"].values():
        assert len(each["different"]) == 1 and not each["passed"]
        assert [what for what, holds in each["checks"].items() if not holds][:1] == ["the same answers"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ConfigError, match=r"^output\.path: .* is not empty; give a new folder$"):
        gpu_folder.write(tmp_path, {}, 1, 4096)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_words_that_no_text_has_are_zero_and_take_no_room(tmp_path):
    torch.manual_seed(1)
    words = torch.randn(2000, 64).half()
    (tmp_path / "encoder_0").mkdir()
    weights = tmp_path / "encoder_0" / "model.safetensors"
    save_file({"embeddings.word_embeddings.weight": words, "other": torch.ones(3)}, weights)
    gpu_folder._pack(weights, {3, 5})
    assert weights.with_name("model.safetensors.gz").stat().st_size < 4000 < weights.stat().st_size
    before = weights.read_bytes()
    weights.unlink()
    gpu_check.unpack(tmp_path)
    assert weights.read_bytes() == before
    kept = load_file(weights)["embeddings.word_embeddings.weight"]
    assert torch.equal(kept[[3, 5]], words[[3, 5]]) and kept.count_nonzero() == 2 * 64
