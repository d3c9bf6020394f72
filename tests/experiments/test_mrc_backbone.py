"""Encoders compared, whole, on a made-up language: adapted ones, and ones that cannot be used."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import DistilBertConfig, DistilBertModel

from engine.encoders import encoder_folder, load_encoder
from engine.errors import ConfigError
from engine.experiments.mrc_backbone import Backbone, BackboneConfig, domain_texts
from engine.experiments.run import Arm
from tests.experiments.prompted import TINY, measured
from tests.models.prompt_mrc.conftest import World

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(folder, model=None, *, left_out=""):
    """A tiny encoder in a folder, one of its files left out; as an encoder's name."""
    (model or load_encoder("tiny:bert", torch.float32, "eager")).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((encoder_folder("tiny:bert") / "tokenizer.json").read_bytes())
    if left_out:
        (folder / left_out).unlink()
    return f"path:{folder}"


def test_an_encoder_that_cannot_be_used_says_why_and_the_others_go_on(corpora, tmp_path):
    other = DistilBertModel(DistilBertConfig(vocab_size=30522, dim=32, n_layers=1, n_heads=2, hidden_dim=64))
    encoders = {
        "path:nowhere": "there is no config.json",
        "hub:org/model": "needs a pinned revision",
        saved(tmp_path / "a", left_out="tokenizer.json"): "there is no tokenizer.json",
        saved(tmp_path / "b", left_out="model.safetensors"): "has no model.safetensors",
        saved(tmp_path / "c", other): "a distilbert cannot be used here",
        saved(tmp_path / "d"): None,
    }
    config = BackboneConfig(corpora, **TINY, corpora=("one",), modes=("tagger",), encoders=tuple(encoders))
    values = measured(Backbone(config), tmp_path)
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    for number, told in enumerate(encoders.values()):
        mine = [row for row in rows if row["arm"] == f"one-encoder{number}-tagger"]
        if told is None:
            assert "not_run" not in {row["metric"] for row in mine}
            assert values[f"one-encoder{number}-tagger", "f1_less"] is not None
        else:
            assert [(row["metric"], row["value"]) for row in mine] == [("not_run", None)] and told in mine[0]["note"]


def test_what_is_no_encoders_fault_stops_the_experiment(corpora, tmp_path):
    config = BackboneConfig(corpora, **TINY, corpora=("absent",), modes=("hybrid",), encoders=("path:nowhere",))
    with pytest.raises(ConfigError, match=r"absent\.parquet"):
        Backbone(config).measure(Arm("absent-encoder0-hybrid", 7), tmp_path, lambda line: None)
    config = replace(config, corpora=("one",), language="xx")
    with pytest.raises(ConfigError, match=r"model\.language"):
        Backbone(config).measure(Arm("one-encoder0-hybrid", 7), tmp_path, lambda line: None)


def test_an_adapted_encoder_is_an_encoder(corpora, tmp_path):
    pq.write_table(pa.table({"tokens": [world.split() for world in World.make(120, 5).texts]}), tmp_path / "texts.parquet")
    texts = (str(tmp_path / "texts.parquet"),)
    config = BackboneConfig(corpora, **TINY, corpora=("one",), modes=("hybrid",), texts=texts, adapt_epochs=4.0, adapt_rate=3e-3)
    values = measured(Backbone(config), tmp_path)
    assert values["adapting", "loss_after"] < values["adapting", "loss_of_new_head"]
    assert ("one-adapted-hybrid", "f1") in values


def test_texts_of_the_domain_leave_out_what_is_tested_on(tmp_path):
    rows = {"split": ["train", "valid", "test"], "text": ["a", "b", "c"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    pq.write_table(pa.table({"split": ["train", "valid"], "sentences": [["d", "e"], ["f"]]}), tmp_path / "b.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    assert sorted(domain_texts(files, 9)) == ["a", "b", "d e"]
    assert set(domain_texts(files, 2)) < {"a", "b", "d e"}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="no column tokens"):
        domain_texts([str(tmp_path / "c.parquet")], 1)
