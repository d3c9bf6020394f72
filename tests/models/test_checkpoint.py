"""One format for every system: what a folder holds, whose it is, its parts, and revisions of it."""

import json

import pytest
import torch

from engine.encoders import encoder_folder
from engine.errors import ConfigError
from engine.models import checkpoint

SYSTEM = "tests.toys.plain"
TENSORS = {"weight": torch.ones(2, 2), "layer.up": torch.full((1, 2), 0.5)}


@pytest.fixture
def folder(tmp_path):
    made(tmp_path / "model")
    return tmp_path / "model"


def made(folder, **values):
    files = {"own.json": {"threshold": 0.5, **values}, "raw.bin": lambda path: path.write_bytes(b"raw")}
    tokenizer = encoder_folder("tiny:bert") / "tokenizer.json"
    return checkpoint.write(folder, SYSTEM, {"width": 2}, TENSORS, tokenizer, files, "a card\n")


def read(folder):
    return checkpoint.read(str(folder), SYSTEM, ("own.json", "raw.bin"))


def with_part(folder, name="heads/wide", on=("own.json",)):
    return checkpoint.write_part(folder, name, {"width": 3}, TENSORS, {"own.json": {"threshold": 0.7}}, "its card\n", on)


def test_a_folder_is_read_as_it_was_written(folder, tmp_path):
    found = read(folder)
    assert found.config == {"width": 2} and found.values("own.json") == {"threshold": 0.5}
    assert json.loads((folder / "config.json").read_text()) == {"system": SYSTEM, "width": 2}
    assert sorted(found.files) == [
        *("README.md", "config.json", "model.safetensors", "own.json", "raw.bin", "tokenizer.json"),
    ]
    assert made(tmp_path / "again") == found.digest != made(tmp_path / "other", more=1)
    assert checkpoint.system_of(str(folder)) == SYSTEM


def test_a_card_may_be_rewritten_and_no_other_file(folder):
    digest = read(folder).digest
    (folder / "README.md").write_text("another card")
    assert read(folder).digest == digest
    (folder / "raw.bin").write_bytes(b"RAW")
    with pytest.raises(ConfigError, match=r"^model\.path: raw\.bin in .* is not the file that was trained"):
        read(folder)
    (folder / "raw.bin").unlink()
    with pytest.raises(ConfigError, match=r"^model\.path: .*model lacks raw\.bin$"):
        read(folder)


def test_a_file_that_the_system_needs_must_be_listed(folder):
    (folder / "further.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"further\.json in .* is not the file that was trained"):
        checkpoint.read(str(folder), SYSTEM, ("own.json", "further.json"))


def test_a_model_of_another_system_is_refused_in_one_line(folder):
    told = f"^model.system: {folder} is a model of {SYSTEM} and not of engine.models; set model.system={SYSTEM}$"
    with pytest.raises(ConfigError, match=told):
        checkpoint.read(str(folder), "engine.models", ("what_that_has.json",))
    config = folder / "config.json"
    config.write_text(json.dumps({"width": 2}))
    checkpoint._write_list(folder, list(read_list(folder)))
    for reading in (lambda: read(folder), lambda: checkpoint.system_of(str(folder))):
        with pytest.raises(ConfigError, match=r"does not say which system the model belongs to$"):
            reading()


def read_list(folder):
    return json.loads((folder / "digest.json").read_text())["files"]


@pytest.mark.parametrize(
    ("what", "name", "told"),
    [
        *(("files", name, "contains an invalid file name") for name in ("../own.json", "/etc/passwd", "a/b.json", "..")),
        *(("parts", name, "contains an invalid part name") for name in ("../heads", "heads", "heads/../..", "heads/a/b")),
    ],
)
def test_a_list_that_leads_out_of_the_folder_is_refused(folder, what, name, told):
    listed = json.loads((folder / "digest.json").read_text())
    listed.setdefault(what, {})[name] = "0" * 64
    (folder / "digest.json").write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=told):
        checkpoint.parts(folder) if what == "parts" else read(folder)


def test_a_part_makes_another_model_of_the_same_folder(folder):
    before = read(folder).digest
    digest = with_part(folder)
    whole = read(folder)
    assert whole.digest == before and list(checkpoint.parts(folder)) == ["heads/wide"]
    part = checkpoint.read_part(whole, "heads/wide", ("own.json",), ("own.json",))
    assert part.digest == digest != before
    assert (part.config, part.values("own.json"), part.folder) == ({"width": 3}, {"threshold": 0.7}, folder / "heads" / "wide")


def test_a_part_of_another_model_is_refused(folder, tmp_path):
    with_part(folder)
    made(tmp_path / "other", more=1)
    with_part(tmp_path / "other")
    for name in ("config.json", "digest.json"):
        (folder / "heads" / "wide" / name).write_bytes((tmp_path / "other" / "heads" / "wide" / name).read_bytes())
    with pytest.raises(ConfigError, match=r"heads/wide in .* was not made for this model$"):
        checkpoint.read_part(read(folder), "heads/wide", ("own.json",), ("own.json",))
    checkpoint._write_list(folder, list(read_list(folder)))
    with pytest.raises(ConfigError, match=r"heads/wide in .* was not made for this model$"):
        checkpoint.read_part(read(folder), "heads/wide", ("own.json",), ("own.json",))


@pytest.mark.parametrize("part", [None, "heads/wide"])
def test_a_revision_replaces_small_files_and_copies_the_rest(folder, tmp_path, part):
    with_part(folder)
    base = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    digest = checkpoint.write_revision(str(tmp_path / "new"), folder, {"own.json": {"threshold": 0.9}}, "new card\n", part)
    new = {path.relative_to(tmp_path / "new"): path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    own = "" if part is None else f"{part}/"
    changed = {f"{own}own.json", f"{own}README.md", f"{own}digest.json", "digest.json"}
    assert new.keys() == base.keys() and {str(name) for name in new if new[name] != base[name]} == changed
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == base
    whole = read(tmp_path / "new")
    found = whole
    if part:
        assert whole.digest == read(folder).digest
        found = checkpoint.read_part(whole, part, ("own.json",), ("own.json",))
    assert found.digest == digest and found.values("own.json") == {"threshold": 0.9}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]


def test_a_revision_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="taken exists; a revision is written to a new folder"):
        checkpoint.write_revision(str(tmp_path / "taken"), folder, {"own.json": {}}, "")

    def broken(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match=r"output\.path: cannot write .*new: No space left on device"):
        checkpoint.write_revision(str(tmp_path / "new"), folder, {"raw.bin": broken}, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "taken"]


def test_numbers_stand_on_one_line(tmp_path):
    values = {"b": [1, 2.5], "a": [[1, 2], []], "c": {"d": ["x", "ü"], "e": None}, "f": {}}
    checkpoint.write_json(tmp_path / "x.json", values)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == values
    assert text == (
        '{\n "a": [\n  [1, 2],\n  []\n ],\n "b": [1, 2.5],\n "c": {\n  "d": [\n   "x",\n   "\\u00fc"\n  ],\n  "e": null\n },\n'
        ' "f": {}\n}\n'
    )


def test_a_network_takes_its_tensors_and_lacks_none(tmp_path):
    network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1), "head": torch.nn.Linear(1, 1)})
    with pytest.raises(ConfigError, match=r"^model\.path: model\.safetensors lacks head\.bias$"):
        checkpoint.fill(network, {"head.weight": torch.ones(1, 1)})
    filled = checkpoint.fill(network, {"head.weight": torch.ones(1, 1), "head.bias": torch.zeros(1)})
    assert filled["head"](torch.tensor([2.0])).item() == 2
    assert not filled.training and not any(value.requires_grad for value in filled.parameters())
