import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from engine.encoders import WEIGHTS, encoder_folder
from engine.errors import ConfigError
from engine.vision import encoders
from engine.vision.encoders import (
    LITE0,
    LITE0_SHA256,
    image_encoder_config,
    image_encoder_digest,
    images_per_forward,
    load_image_encoder,
)

TINY = ("tiny:lite0", "tiny:vit", "tiny:dinov2")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "marginalia" / "vision"


def test_the_embedded_weights_are_the_published_ones():
    assert image_encoder_digest(LITE0) == LITE0_SHA256


def test_the_embedded_encoder_is_kept_as_safetensors(cache, monkeypatch):
    first = load_image_encoder(LITE0, torch.float32)
    (copy,) = cache.iterdir()
    assert copy.suffix == ".safetensors"
    monkeypatch.setattr(torch, "load", None)
    again = load_image_encoder(LITE0, torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    assert (first.preprocessing, first.width, first.cell_width, first.grid(320)) == ("lite0-320", 2560, 112, (20, 20))
    assert all(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("harm", ["other values", "cut off"])
def test_a_spoilt_copy_is_made_again(cache, harm):
    load_image_encoder(LITE0, torch.float32)
    (copy,) = cache.iterdir()
    whole = hashlib.sha256(copy.read_bytes()).digest()
    if harm == "cut off":
        copy.write_bytes(copy.read_bytes()[:1000])
    else:
        state = {name: tensor.clone() for name, tensor in load_file(copy).items()}
        state["head.bias"][7] += 1
        save_file(state, copy)
    load_image_encoder(LITE0, torch.float32)
    assert hashlib.sha256(copy.read_bytes()).digest() == whole


def test_other_weights_under_the_embedded_name_are_refused_unread(tmp_path, monkeypatch):
    (tmp_path / "other.pth").write_bytes(b"other")
    monkeypatch.setattr(encoders, "_published", lambda: tmp_path / "other.pth")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ConfigError, match="not the published ones"):
        load_image_encoder(LITE0, torch.float32)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="make install"):
        image_encoder_digest(LITE0)


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_encoders_are_the_same_every_time(name):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = load_image_encoder(name, torch.float32).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second = load_image_encoder(name, torch.float32).state_dict()
    assert all(torch.equal(first[each], second[each]) for each in first)
    assert len({image_encoder_digest(each) for each in TINY}) == 3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("efficientnet", "pkg:efficientnet-lite0, path:<folder>, hub:<id>@<commit>, tiny:lite0, tiny:vit, tiny:dinov2"),
        ("pkg:minilm", "no image encoder"),
        ("tiny:bert", "tiny:lite0, tiny:vit, tiny:dinov2"),
        ("path:/nowhere", "no config.json"),
        ("hub:org/model", "not pinned to a commit"),
        ("hub:no id@main", "no id of the hub"),
    ],
)
def test_a_wrong_name_is_one_line(name, told):
    with pytest.raises(ConfigError) as error:
        load_image_encoder(name, torch.float32)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TINY)
def test_a_saved_encoder_is_loaded_by_its_folder(tmp_path, name):
    encoder = load_image_encoder(name, torch.float32)
    encoder.model.save_pretrained(tmp_path)
    again = load_image_encoder(f"path:{tmp_path}", torch.float32)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(pixels), encoder(pixels))
    assert type(again) is type(encoder)
    assert again.preprocessing == encoder.preprocessing == "small-64"
    assert image_encoder_digest(f"path:{tmp_path}") == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("folder", "name", "preprocessing"),
    [("vit", "tiny:vit", "imagenet-224"), ("dino", "tiny:dinov2", "imagenet-448"), ("rad-dino", "tiny:dinov2", "rad-dino-518")],
)
def test_published_encoders_have_the_preprocessing_of_their_training(tmp_path, folder, name, preprocessing):
    model = load_image_encoder(name, torch.float32).model
    del model.config.preprocessing
    model.save_pretrained(tmp_path / folder)
    assert load_image_encoder(f"path:{tmp_path / folder}", torch.float32).preprocessing == preprocessing


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ({"config.json": "{"}, "names no encoder type"),
        ({"config.json": None}, "no config.json"),
        ({WEIGHTS: "not weights at all"}, "is it whole"),
        ({WEIGHTS: None}, "has no model.safetensors"),
    ],
)
def test_broken_files_are_one_line(tmp_path, harm, told):
    load_image_encoder("tiny:vit", torch.float32).model.save_pretrained(tmp_path)
    for file, text in harm.items():
        (tmp_path / file).unlink() if text is None else (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        load_image_encoder(f"path:{tmp_path}", torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "told"), [("lacks", "lacks layernorm.bias"), ("other size", "do not fit its config.json")])
def test_weights_that_do_not_fit_are_one_line(tmp_path, change, told):
    load_image_encoder("tiny:vit", torch.float32).model.save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    bias = state.pop("layernorm.bias")
    save_file(state if change == "lacks" else {**state, "layernorm.bias": torch.cat((bias, bias))}, tmp_path / WEIGHTS)
    with pytest.raises(ConfigError, match=told) as error:
        load_image_encoder(f"path:{tmp_path}", torch.float32)
    assert "\n" not in str(error.value)


def test_an_encoder_of_text_is_refused(tmp_path):
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is of type bert; read as images are efficientnet_lite0, vit, dinov2"):
        load_image_encoder(f"path:{tmp_path}", torch.float32)


def test_an_encoder_on_the_hub(hub, tmp_path):
    encoder = load_image_encoder("tiny:dinov2", torch.float32)
    encoder.model.save_pretrained(tmp_path / "published")
    name = hub.publish("org/rad-dino", tmp_path / "published")
    pixels = torch.zeros(1, 3, 64, 64)
    assert torch.equal(load_image_encoder(name, torch.float32)(pixels), encoder(pixels))
    assert image_encoder_config(name).model_type == "dinov2"


def test_a_hub_without_it_is_told_as_for_text(hub):
    _told_alike(f"org/model@{'0' * 40}", "there is no org/model")


@pytest.mark.long  # huggingface_hub tries for half a minute
def test_a_hub_out_of_reach_is_told_as_for_text(hub):
    hub.stop()
    _told_alike(f"org/model@{'0' * 40}", "cannot be reached")


def _told_alike(name, told):
    with pytest.raises(ConfigError, match=told) as text:
        encoder_folder(f"hub:{name}")
    with pytest.raises(ConfigError) as image:
        load_image_encoder(f"hub:{name}", torch.float32)
    assert str(image.value) == str(text.value)


def test_small_images_come_in_larger_batches():
    assert [images_per_forward(side, "cpu") for side in (64, 320, 448, 2000)] == [50, 2, 1, 1]
    assert images_per_forward(320, "cuda:0") == 64
