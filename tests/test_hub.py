"""Encoders from the hub: asked for only by name, at a pinned commit, once, and offline from then on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.encoders import encoder_digest, encoder_folder, file_digest, load_encoder, load_tokenizer
from engine.errors import ConfigError
from jobs.train import main as train
from tests.hub import COMMIT, Hub

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """What a repository of the hub holds, of an encoder that can be used as it is."""
    folder = tmp_path / "published"
    load_encoder("tiny:bert", torch.float32, "eager").save_pretrained(folder)
    shutil.copy(encoder_folder("tiny:bert") / "tokenizer.json", folder)
    (folder / "README.md").write_text("not asked for\n")
    (folder / "flax_model.msgpack").write_bytes(b"not asked for")
    return folder


def test_a_named_encoder_is_fetched_once_and_works_when_the_hub_is_gone(hub: Hub, tiny_folder: Path) -> None:
    name = hub.publish("org/tiny", tiny_folder)
    first = load_encoder(name, torch.float32, "eager").state_dict()
    asked = {each.rpartition("/")[2] for each in hub.requests if "resolve" in each}
    assert asked == {"config.json", "tokenizer.json", "model.safetensors"}
    assert encoder_digest(name) == file_digest(tiny_folder / "model.safetensors")
    expected = load_encoder("tiny:bert", torch.float32, "eager").state_dict()
    assert all(torch.equal(value, first[key]) for key, value in expected.items())
    hub.requests.clear()
    load_encoder(name, torch.float32, "eager")
    load_tokenizer(encoder_folder(name))
    assert hub.requests == []
    hub.stop()
    assert encoder_digest(name) == file_digest(tiny_folder / "model.safetensors")


@pytest.mark.parametrize("name", ["pkg:minilm", "tiny:bert", "tiny:longformer", "path"])
def test_no_other_name_asks_anybody(hub: Hub, tiny_folder: Path, name: str) -> None:
    name = f"path:{tiny_folder}" if name == "path" else name
    load_encoder(name, torch.float32, "eager")
    load_tokenizer(encoder_folder(name))
    encoder_digest(name)
    assert hub.requests == []


def test_the_process_that_asks_for_an_encoder_stays_offline(hub: Hub, tiny_folder: Path) -> None:
    """A worker on a node whose cache lacks the encoder fetches the files; whatever else would use the hub still may not."""
    name = hub.publish("org/tiny", tiny_folder)
    code = (
        "from engine.encoders import encoder_digest\n"
        "import huggingface_hub\n"
        f"print(encoder_digest('{name}'))\n"
        "try:\n    huggingface_hub.hf_hub_download('org/tiny', 'README.md')\n"
        "except huggingface_hub.errors.LocalEntryNotFoundError:\n    print('offline')\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [file_digest(tiny_folder / "model.safetensors"), "offline"], done.stderr
    assert "org/tiny" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not any("README" in each for each in hub.requests)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper(), ""])
def test_what_can_move_is_no_pinned_revision(hub: Hub, tiny_folder: Path, revision: str) -> None:
    hub.publish("org/tiny", tiny_folder, revision)
    with pytest.raises(ConfigError, match="40 hex digits") as told:
        encoder_folder(f"hub:org/tiny@{revision}")
    assert "\n" not in str(told.value) and hub.requests == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"hub:org/other@{COMMIT}", "there is no org/other on the hub, or it is private"),
        (f"hub:org/tiny@{'0' * 40}", "org/tiny has no commit 0000000"),
        (f"hub:org/gated@{COMMIT}", "terms"),
        (f"hub:org/notes@{COMMIT}", "no config.json"),
        (f"hub:no id@{COMMIT}", "'no id' is no id of the hub"),
        (f"hub:https://somewhere/org/tiny@{COMMIT}", "is no id of the hub"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(hub: Hub, tiny_folder: Path, tmp_path: Path, name: str, told: str) -> None:
    hub.publish("org/tiny", tiny_folder)
    hub.publish("org/gated", tiny_folder)
    hub.publish("org/notes", tmp_path / "nothing")
    hub.gated.add("org/gated")
    with pytest.raises(ConfigError, match=told) as error:
        encoder_folder(name)
    assert "\n" not in str(error.value)


@pytest.mark.long  # huggingface_hub tries for half a minute
def test_no_network_is_one_line(hub: Hub) -> None:
    hub.stop()
    with pytest.raises(ConfigError, match="cannot be reached") as error:
        encoder_folder(f"hub:org/tiny@{COMMIT}")
    assert "\n" not in str(error.value)


def test_weights_that_must_be_converted_say_how(hub: Hub, tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").rename(tiny_folder / "pytorch_model.bin")
    name = hub.publish("org/tiny", tiny_folder)
    with pytest.raises(ConfigError, match=rf"python -m jobs.convert_encoder encoder={name} output.path="):
        encoder_digest(name)
    assert not any("pytorch_model" in each for each in hub.requests)


@pytest.mark.parametrize("model", ["site_classifier", "prompt_mrc"])
def test_a_training_tells_of_its_encoder_before_it_reads_a_text(
    hub: Hub, tmp_path: Path, model: str, capsys: pytest.CaptureFixture
) -> None:
    rest = [f"model={model}", f"data.path={tmp_path}/nothing", f"output.path={tmp_path}/model"]
    for name, told in (("hub:org/tiny@main", "40 hex digits"), (f"hub:org/tiny@{COMMIT}", "there is no org/tiny on the hub")):
        assert train.run([f"model.encoder={name}", *rest]) == 2
        message = capsys.readouterr().err
        assert told in message and message.count("\n") == 1
