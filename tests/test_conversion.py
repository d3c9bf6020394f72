"""Encoders as people publish them, pickled and with the files of a slow tokenizer, turned into what the product reads."""

import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer

from engine.conversion import convert
from engine.encoders import file_digest, load_encoder, load_tokenizer, special_ids
from engine.errors import ConfigError
from jobs.convert_encoder import main
from tests.hub import Hub
from tests.published import SPECIAL, bert, byte_level

WORDS = ["Tumor", "tumor", "##s", "of", "the", "L", "l", "##eft", "Größe", "große"]
IDS = torch.arange(5, 15)[None]
TEXT = "Tumors of the Left Größe"


@torch.no_grad()
def same_states(folder: Path, converted: Path) -> None:
    """The converted encoder's states are those of the published weights, read by transformers itself."""
    plain = transformers.AutoModel.from_pretrained(folder, use_safetensors=False, attn_implementation="eager").eval()
    ours = load_encoder(f"path:{converted}", torch.float32, "eager")
    assert torch.equal(ours(IDS).last_hidden_state, plain(IDS).last_hidden_state)
    assert not any(
        "pooler" in name or name.startswith(("cls.", "lm_head.")) for name in load_file(converted / "model.safetensors")
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_bert_with_a_vocabulary(tmp_path: Path, zipped: bool) -> None:
    folder = bert(tmp_path / "bert", WORDS, _use_new_zipfile_serialization=zipped)
    lines = convert(f"path:{folder}", tmp_path / "new")
    same_states(folder, tmp_path / "new")
    tokenizer = load_tokenizer(tmp_path / "new")
    assert special_ids(tokenizer) == (2, 3, 0, 4)
    assert tokenizer.encode(TEXT, add_special_tokens=False).tokens == ["Tumor", "##s", "of", "the", "L", "##eft", "Größe"]
    assert any("cased" in line and "vocab.txt" in line for line in lines)


def test_casing_is_that_of_the_vocabulary_unless_the_model_says(tmp_path: Path) -> None:
    small = list(dict.fromkeys(word.lower() for word in WORDS))
    folder = bert(tmp_path / "small", small)
    assert any("uncased" in line for line in convert(f"path:{folder}", tmp_path / "one"))
    assert load_tokenizer(tmp_path / "one").encode("TUMORS").tokens[1:-1] == ["tumor", "##s"]
    folder = bert(tmp_path / "told", WORDS)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": false}')
    assert any("tokenizer_config.json" in line for line in convert(f"path:{folder}", tmp_path / "two"))
    assert load_tokenizer(tmp_path / "two").encode("TUMORS").tokens[1:-1] == ["tumor", "##s"]


@pytest.mark.parametrize("kind", ["Longformer", "Roberta"])
def test_a_pickled_encoder_with_a_byte_level_vocabulary(tmp_path: Path, kind: str) -> None:
    folder = byte_level(tmp_path / "old", kind, [TEXT] * 9)
    convert(f"path:{folder}", tmp_path / "new")
    same_states(folder, tmp_path / "new")
    tokenizer = load_tokenizer(tmp_path / "new")
    expected = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert tokenizer.encode(TEXT, add_special_tokens=False).ids == expected.encode(TEXT).ids
    assert tokenizer.encode(TEXT).tokens[0] == "<s>" and tokenizer.encode(TEXT).tokens[-1] == "</s>"
    assert special_ids(tokenizer) == (0, 2, 1, 4)


def test_a_fast_tokenizer_and_safetensors_stay_what_they_are(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", WORDS)
    convert(f"path:{folder}", tmp_path / "one")
    convert(f"path:{tmp_path / 'one'}", tmp_path / "two")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert file_digest(tmp_path / "one" / name) == file_digest(tmp_path / "two" / name), name


def test_digests_say_what_was_read_and_written(tmp_path: Path, hub: Hub) -> None:
    folder = bert(tmp_path / "bert", WORDS)
    name = hub.publish("dmis-lab/tiny", folder)
    convert(name, tmp_path / "new")
    found = json.loads((tmp_path / "new" / "digest.json").read_text())
    assert found["settings"] == {"encoder": name} and found["read"] == {
        each: file_digest(folder / each) for each in ("config.json", "pytorch_model.bin", "vocab.txt")
    }
    assert found["files"] == {
        each: file_digest(tmp_path / "new" / each) for each in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert {path.name for path in (tmp_path / "new").iterdir()} == {*found["files"], "digest.json"}
    assert not any(".msgpack" in each or ".h5" in each for each in hub.requests)


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", WORDS)
    for zipped in (True, False):
        torch.save({"a": Harm(tmp_path / "harm")}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ConfigError, match=r"pytorch_model\.bin of path:.* holds more than tensors, or is not whole") as told:
            convert(f"path:{folder}", tmp_path / "new")
        assert "\n" not in str(told.value) and not (tmp_path / "harm").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert"]


def test_what_is_no_encoder_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def broken(name: str, text: str | None) -> Path:
        folder = bert(tmp_path / name.replace("/", "_") / f"{str(text)[:1]}{len(str(text))}", WORDS)
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            (folder / name).write_text(text)
        return folder

    others = broken("vocab.txt", "\n".join([*SPECIAL, *WORDS, "more"]) + "\n")
    config = json.loads((others / "config.json").read_text())
    wide = broken("pytorch_model.bin", None)
    torch.save({"embeddings.word_embeddings.weight": torch.zeros(15, 32)}, wide / "pytorch_model.bin")
    listed = bert(tmp_path / "listed", WORDS)
    torch.save([torch.zeros(2)], listed / "pytorch_model.bin")
    narrow = broken("config.json", json.dumps({**config, "hidden_size": 16}))
    shards = bert(tmp_path / "shards", WORDS)
    (shards / "pytorch_model.bin").rename(shards / "pytorch_model-00001-of-00002.bin")
    (shards / "pytorch_model.bin.index.json").write_text("{}")
    for folder, told in {
        broken("config.json", None): "no config.json",
        broken("config.json", "{}"): "names no encoder type",
        broken("vocab.txt", None): "tokenizer.json",
        broken("pytorch_model.bin", "x"): "not whole",
        broken("tokenizer_config.json", "{"): "tokenizer_config.json in .* cannot be read",
        others: "16 word pieces",
        wide: "lack",
        listed: "more than tensors",
        narrow: "do not fit its config.json",
        shards: "in one piece",
    }.items():
        with pytest.raises(ConfigError, match=told) as error:
            convert(f"path:{folder}", tmp_path / "new")
        assert "\n" not in str(error.value), folder
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "new"))]
    with pytest.raises(ConfigError, match="path:<folder> or hub:"):
        convert("pkg:minilm", tmp_path / "new")


def test_the_job_converts_once(tmp_path: Path, capsys: pytest.CaptureFixture, hub: Hub) -> None:
    name, output = hub.publish("org/tiny", bert(tmp_path / "bert", WORDS)), tmp_path / "new"
    words = [f"encoder={name}", f"output.path={output}"]
    assert main.run(words) == 0
    assert f"model.encoder=path:{output}" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    hub.requests.clear()
    hub.stop()
    assert main.run(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before and hub.requests == []
    assert main.run([f"encoder=path:{tmp_path / 'bert'}", f"output.path={output}"]) == 2
    assert "holds another" in capsys.readouterr().err
    assert Tokenizer.from_file(str(output / "tokenizer.json")).get_vocab_size() == len(SPECIAL) + len(WORDS)
    (output / "model.safetensors").write_bytes(b"x")
    assert main.run(words) == 2
    assert "model.safetensors" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    assert main.run([words[0], f"output.path={tmp_path / 'mine'}"]) == 2
    assert "is not empty" in capsys.readouterr().err
