"""Encoders of other kinds than BERT are trained, by an adapter or by their own weights, and loaded as the product loads them."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import engine.training.run
from engine.conversion import convert
from engine.encoders import encoder_digest, load_encoder
from engine.models import checkpoint
from engine.models.site_classifier.checkpoint import read_checkpoint
from jobs.train import main
from tests.models.conftest import coded, coder
from tests.published import byte_level
from tests.toys.train import fit


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short reports of two sites, each named by a word of its own."""
    folder, draw = tmp_path_factory.mktemp("kinds"), random.Random(5)
    words = ["resection", "margin", "free", "of", "tumour", "nodes", "negative", "grade", "two", "specimen"]
    rows = []
    for number in range(48):
        site, word = (("C18", "colon"), ("C50", "breast"))[number % 2]
        text = [*draw.choices(words, k=6), word, *draw.choices(words, k=9)]
        split = ("train", "train", "train", "train", "valid", "test")[number // 2 % 6]
        rows.append({"record_id": f"r{number}", "text": " ".join(text), "site": site, "split": split, "patient_id": f"p{number}"})
    pl.DataFrame(rows).write_parquet(folder / "reports.parquet")
    return folder / "reports.parquet"


@pytest.mark.parametrize(
    ("kind", "head", "rank"),
    [("Longformer", "dpla", 2), ("Longformer", "dpla", 0), ("Roberta", "pooling", 2), ("Roberta", "cls", 0)],
)
def test_an_encoder_is_trained_and_codes(
    reports: Path, kind: str, head: str, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.training.run, "fit", fit)
    texts = pl.read_parquet(reports)["text"].to_list()
    convert(f"path:{byte_level(tmp_path / 'published', kind, texts)}", tmp_path / "encoder")
    name, output = f"path:{tmp_path / 'encoder'}", tmp_path / "model"
    model = [f"model.encoder={name}", f"model.head={head}", f"model.rank={rank}", "model.window=30"]
    small = ["train.epochs=12", "train.batch=4", "train.rate=3e-3", "learn.masking=0", "evidence_sample=1", "baseline=false"]
    data = [f"data.path={reports}", "data.labels={site: site}", f"output.path={output}", "cluster.precision=fp32"]
    assert main.run(["model=site_classifier", *model, *small, *data, "cluster.threads=1"]) == 0
    figures = json.loads((output / "figures.json").read_text())
    losses = [row["loss_site"] for row in figures["curve"]]
    assert losses[-1] < 0.6 * losses[0], losses
    found = read_checkpoint(str(output))
    assert found.config.encoder == name and found.config.encoder_digest == encoder_digest(name)
    row, _ = coded(coder(output), [texts[0], texts[1]])
    assert row["site_code"] == "C18" and row["site_evidence"]
    assert all(texts[0][each["start"] : each["end"]].strip() for each in row["site_evidence"])
    tensors, before = load_file(output / "model.safetensors"), load_encoder(name, torch.float32, "eager").state_dict()
    tuned = {key.removeprefix("encoder."): value for key, value in tensors.items() if key.startswith("encoder.")}
    if rank:
        assert all(key.endswith((".down", ".up")) for key in tuned)
        return
    # The encoder's own weights: all of them, in fp32, changed, and those that the product computes with.
    assert set(tuned) == set(before) and all(value.dtype == torch.float32 for value in tuned.values())
    assert sum(not torch.equal(value, before[key]) for key, value in tuned.items()) > 0.9 * len(before)
    assert (output / "model.safetensors").stat().st_size > sum(4 * value.numel() for value in before.values())
    loaded = coder(output).network.encoder.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in tuned.items())
    assert "tuned as a whole" in (output / "README.md").read_text()
    assert checkpoint.read(str(output), "engine.models.site_classifier").digest == found.digest
