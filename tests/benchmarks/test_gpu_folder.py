"""The folder for another machine, and the check on it as there: by itself, without our packages and without network."""

import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.benchmarks import gpu_check, gpu_folder
from engine.benchmarks.corpus import made_up_in
from engine.errors import ConfigError
from engine.models import checkpoint
from engine.models.base import systems
from engine.models.options import reads_of
from engine.records import IMAGES, TEXT
from engine.text.phrases import Reading
from engine.text.readable import in_language
from engine.vision.encoders import load_image_encoder
from jobs import gpu_check as door
from tests.models.clear import tiny

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
    named = gpu_folder.shipping({name.rpartition(".")[2]: name for name in systems()})
    files = {gpu_folder.records_file(system) for system in named.values()}
    assert {file.name for pattern in ("texts.*", "images.*") for file in folder.glob(pattern)} == files
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    code, message, report = check(whole)
    assert (code, report["passed"]) == (0, True), message
    assert set(report["systems"]) == set(named)
    for name, each in report["systems"].items():
        assert each["rows"] == gpu_check.ON_PROCESSOR[0] and each["different"] == [] and each["largest"] <= 0.02
        speed = each["images_a_second" if reads_of(named[name]) == IMAGES else "tokens_a_second"]
        assert speed > 0 and each["share_of_peak"] > 0 and each["evidence_costs"] > 0.5
        assert each["memory_mib"] > 100 and {"the same answers", "out of memory"} < set(each["checks"])
        plant(folder, name)
    code, message, report = check(folder)
    assert (code, report["passed"]) == (1, False), message
    for each in report["systems"].values():
        assert len(each["different"]) == 1 and not each["passed"]
        assert [what for what, holds in each["checks"].items() if not holds][:1] == ["the same answers"]


@pytest.mark.parametrize("system", [name for name in systems() if (files(name) / "shipped").is_dir() and reads_of(name) == TEXT])
def test_a_system_reads_texts_in_its_language(system):
    language = gpu_folder.language_of(system)
    texts = made_up_in(language, 20, 50)["text"].to_pylist()
    assert len(set(texts)) == 20 and all(in_language(Reading(text), language) for text in texts)


def test_texts_of_each_language_lie_in_a_file_of_their_own(tmp_path, monkeypatch):
    """The folder of an English and a Chinese system, and what a check of each reads in it."""
    languages = {"engine.a": "en", "engine.b": "zh"}
    answered = {}

    def answer(name, system, texts, word_ids):
        answered[name] = texts
        return {next(iter(texts)): [["A", 0, 1]]}

    monkeypatch.setattr(gpu_folder, "language_of", languages.__getitem__)
    monkeypatch.setattr(gpu_folder, "reads_of", lambda system: TEXT)
    monkeypatch.setattr(gpu_folder, "_encoder", lambda system: None)
    monkeypatch.setattr(gpu_folder, "_write_model", lambda folder, name, *rest: (folder / name).mkdir())
    monkeypatch.setattr(gpu_folder, "_write_answers", answer)
    folder = tmp_path / "new"
    gpu_folder.write(folder, {"one": "engine.a", "two": "engine.b"}, 6, {"batch_tokens": 4096})
    assert json.loads((folder / gpu_check.MANIFEST).read_text())["batches"] == {"batch_tokens": 4096}
    assert sorted(file.name for file in folder.glob("texts.*")) == ["texts.en.parquet", "texts.zh.parquet"]
    manifest = json.loads((folder / gpu_check.MANIFEST).read_text())
    for name, language in (("one", "en"), ("two", "zh")):
        assert manifest["systems"][name]["records"] == f"texts.{language}.parquet"
        file = pq.read_table(folder / f"texts.{language}.parquet").to_pylist()
        assert {row["record_id"]: row["text"] for row in file} == answered[name] and len(file) == 6
        assert all(in_language(Reading(row["text"]), language) for row in file)


def test_a_system_that_reads_images_is_checked_on_radiographs(tmp_path, monkeypatch):
    """Also where there is neither pydicom nor scipy, and no encoder of texts."""
    model = tiny.write(tmp_path / "model")
    own = "engine.models.clear"
    monkeypatch.setattr(checkpoint, "shipped", lambda system: model if system == own else tmp_path / "none")
    systems = {"clear": own, "site_classifier": "engine.models.site_classifier"}
    assert gpu_folder.shipping(systems) == {"clear": own}
    folder = tmp_path / "check"
    gpu_folder.write(folder, {"clear": own}, 6, {"batch_images": 8})
    assert len(pq.read_table(folder / "images.parquet")) == 6
    code, message, report = check(folder)
    figures = report["systems"]["clear"]
    assert (code, figures["different"], figures["rows"]) == (0, [], gpu_check.ON_PROCESSOR[0]), message
    assert figures["images_a_second"] > 0 and "4 images, 0 different" in message
    assert {"out of memory", "channels_last", "concepts add up"} < {name for name, holds in figures["checks"].items() if holds}
    plant(folder, "clear")
    assert check(folder)[0] == 1


def test_an_encoder_of_images_is_written_as_a_folder(tmp_path):
    gpu_folder._write_image_encoder("tiny:lite0", tmp_path / "encoder_0")
    gpu_folder._pack(tmp_path / "encoder_0" / "model.safetensors", set())
    (tmp_path / "encoder_0" / "model.safetensors").unlink()
    gpu_check.unpack(tmp_path)
    copy, own = (load_image_encoder(name, torch.float32) for name in (f"path:{tmp_path / 'encoder_0'}", "tiny:lite0"))
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(copy(pixels), own(pixels), rtol=1e-2, atol=1e-2)


def test_a_language_without_texts_is_refused():
    with pytest.raises(ConfigError, match=r"^no texts are made up in the language 'de', only in en and zh$"):
        made_up_in("de", 1, 100)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ConfigError, match=r"^output\.path: .* is not empty; give a new folder$"):
        gpu_folder.write(tmp_path, {}, 1, {})
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


def test_a_system_without_a_model_is_left_out_in_a_line(tmp_path, monkeypatch, capsys):
    calls = []
    own = "engine.models.clear"
    shipped = checkpoint.shipped
    monkeypatch.setattr(checkpoint, "shipped", lambda system: tmp_path / "none" if system == own else shipped(system))
    monkeypatch.setattr(gpu_folder, "write", lambda folder, systems, texts, batches: calls.append((systems, batches)))
    assert door.main.run([f"output.path={tmp_path / 'new'}"]) == 0
    assert "left out, because no model is included: clear\n" in capsys.readouterr().out
    ((systems, batches),) = calls
    assert "site_classifier" in systems and "clear" not in systems and set(batches) == {"batch_tokens"}
