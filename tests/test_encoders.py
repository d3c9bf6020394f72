import shutil

import pytest
import torch
import transformers

from engine import encoders
from engine.encoders import (
    MINILM_SHA256,
    check_window,
    encoder_digest,
    encoder_folder,
    load_encoder,
    load_tokenizer,
    pick_precision,
    positions,
    set_threads,
)
from engine.errors import ConfigError


def test_the_embedded_weights_are_the_published_ones():
    assert encoder_digest("pkg:minilm") == MINILM_SHA256


def test_the_tiny_encoder_is_the_same_every_time():
    torch.manual_seed(1)
    first = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    torch.manual_seed(2)
    second = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["minilm", "path:/nowhere", "hub:org/model", "hub:no id@main", "pkg:other"])
def test_a_wrong_name_is_one_line(name):
    with pytest.raises(ConfigError) as error:
        encoder_folder(name)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    shutil.copy(encoder_folder("pkg:minilm") / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        encoder_digest(f"path:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("config.json", "{", "names no encoder type"),
        ("config.json", '{"model_type": "unheard_of"}', "names no encoder type"),
        ("model.safetensors", "not weights at all", "model.safetensors of path:.* cannot be read"),
        ("tokenizer.json", "{", "tokenizer.json cannot be read"),
    ],
)
def test_broken_files_are_one_line(tmp_path, file, text, told):
    load_encoder("tiny:bert", torch.float32, "eager").save_pretrained(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        if file == "tokenizer.json":
            load_tokenizer(tmp_path)
        load_encoder(f"path:{tmp_path}", torch.float32, "eager")
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("kind", ["XLMRoberta", "MPNet", "Albert", "DistilBert"])
def test_no_encoder_has_a_pooler_that_nobody_reads(tmp_path, kind):
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "DistilBert":
        sizes = {"vocab_size": 50, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    found = load_encoder(f"path:{tmp_path}", torch.float32, "eager")
    assert type(found).__name__ == f"{kind}Model"
    assert not any("pooler" in name for name, _ in found.named_parameters())


def test_windows_that_do_not_fit_the_positions_are_refused():
    check_window("pkg:minilm", 510)
    with pytest.raises(ConfigError, match=r"model\.window: pkg:minilm has positions for 512 tokens, .* at most 510"):
        check_window("pkg:minilm", 511)
    # Others do so too, by whatever id padding has; some have no limit.
    assert positions(transformers.XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert positions(transformers.BertConfig()) == 512
    # Longformer counts positions from behind the id of padding, 0 in the tiny one.
    check_window("tiny:longformer", 4349)
    with pytest.raises(ConfigError, match="at most 4,349"):
        check_window("tiny:longformer", 4350)


def test_torch_leaves_the_processors_alone_that_a_container_does_not_grant(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setattr(encoders, "processors", lambda: 8)
        set_threads(0)
        assert torch.get_num_threads() == 4
        monkeypatch.setattr(encoders, "processors", lambda: 1)
        set_threads(0)
        assert torch.get_num_threads() == 1
        set_threads(3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
