import shutil

import pytest
import torch

from engine.encoders import MINILM_SHA256, encoder_digest, encoder_folder, load_encoder, load_tokenizer, pick_precision
from engine.errors import ConfigError


def test_the_embedded_weights_are_the_published_ones():
    assert encoder_digest("pkg:minilm") == MINILM_SHA256


def test_the_tiny_encoder_is_the_same_every_time():
    torch.manual_seed(1)
    first = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    torch.manual_seed(2)
    second = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["minilm", "path:/nowhere", "hub:org/model", "pkg:other"])
def test_a_wrong_name_is_one_line(name):
    with pytest.raises(ConfigError) as error:
        encoder_folder(name)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    shutil.copy(encoder_folder("pkg:minilm") / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        encoder_digest(f"path:{tmp_path}")


def test_other_weights_under_the_embedded_name_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr("engine.encoders.encoder_folder", lambda name: tmp_path)
    with pytest.raises(ConfigError, match="not the published ones"):
        encoder_digest("pkg:minilm")


def test_the_tokenizer_cuts_and_pads_nothing():
    tokenizer = load_tokenizer(encoder_folder("pkg:minilm"))
    assert len(tokenizer.encode("tumor " * 600, add_special_tokens=False).ids) == 600


def test_precision():
    assert pick_precision("fp32", "cpu") is torch.float32
    assert pick_precision("bf16", "cpu") is torch.bfloat16
    with pytest.raises(ConfigError, match="auto, fp32, bf16"):
        pick_precision("fp8", "cpu")
