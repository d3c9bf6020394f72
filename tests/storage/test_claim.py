"""A folder belongs to one work, locally and on S3."""

import threading

import pytest

from engine.errors import ConfigError, InputChanged
from engine.storage import storage_for
from engine.storage.claim import Kind, check, claim, read

SETTINGS = {"loop": {"rate": 0.1, "epochs": 2}, "labels": ["a", "b"], "note": "x" * 80}
KIND = Kind("toy", "holds another toy: {changes}; choose a new folder", "{name} was {before}, now {now}")
QUIET = Kind("toy", "holds another toy ({changes})", note="_work/settings.json")


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    return f"{tmp_path}/out" if request.param == "local" else f"{request.getfixturevalue('bucket')}/out"


def test_the_same_work_goes_on_and_the_note_stays_the_first(folder):
    assert read(folder, KIND) is None
    note = claim(folder, SETTINGS, KIND, input=["a", 1], id="first")
    assert note == {"input": ["a", 1], "id": "first", "settings": SETTINGS}
    # Tuples and lists are the same in a note.
    assert claim(folder, {**SETTINGS, "labels": ("a", "b")}, KIND, input=("a", 1), id="second") == note == read(folder, KIND)
    assert [entry.path for entry in storage_for(folder).list(folder)] == [f"{folder}/settings.json"]
    assert read(f"{folder}/", KIND) == note  # as people write a folder


def test_other_settings_are_refused_by_their_names_wherever_the_note_lies(folder):
    claim(folder, SETTINGS, KIND)
    other = {"loop": {"rate": 0.2, "epochs": 2}, "labels": ["a", "b"], "note": "y" * 80}
    said = f"output.path: {folder} holds another toy: loop.rate was 0.1, now 0.2; note was {'x' * 57}..., now {'y' * 57}..."
    for ask in (check, claim):
        with pytest.raises(ConfigError) as caught:
            ask(folder, other, KIND)
        assert str(caught.value) == f"{said}; choose a new folder"
    below = f"{folder}/below"
    claim(below, SETTINGS, QUIET)
    with pytest.raises(ConfigError) as caught:
        claim(below, {**SETTINGS, "note": "words of a record", "more": 1}, QUIET)
    assert str(caught.value) == f"output.path: {below} holds another toy (note; more)"


def test_an_input_that_has_changed_is_told_apart_from_settings(folder):
    claim(folder, SETTINGS, KIND, input={"a": 1})
    with pytest.raises(InputChanged, match=r"^data\.path: the input has changed since this toy began; bring it back"):
        claim(folder, SETTINGS, KIND, input={"a": 2})
    with pytest.raises(ConfigError, match="holds another toy") as caught:
        claim(folder, {**SETTINGS, "labels": []}, KIND, input={"a": 2})
    assert not isinstance(caught.value, InputChanged)
    # Without an input to tell, none is compared.
    assert claim(folder, SETTINGS, KIND)["input"] == {"a": 1}


def test_a_folder_with_other_things_is_refused_and_hidden_ones_are_none(folder):
    storage = storage_for(folder)
    for name in (".hidden", "left.tmp"):
        storage.create(f"{folder}/{name}", b"")
    check(folder, SETTINGS, KIND)
    assert read(folder, KIND) is None
    storage.create(f"{folder}/thesis.txt", b"mine")
    for ask in (check, claim):
        with pytest.raises(ConfigError, match="is not empty and holds no toy; choose a new folder"):
            ask(folder, SETTINGS, KIND)
    assert read(folder, KIND) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"settings": 1}'])
def test_a_damaged_note_is_refused(folder, content):
    storage_for(folder).create(f"{folder}/settings.json", content)
    with pytest.raises(ConfigError, match=r"settings\.json is damaged or unreadable"):
        claim(folder, SETTINGS, KIND)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt is a file; give a folder"):
        claim(str(tmp_path / "mine.txt"), SETTINGS, KIND)
    with pytest.raises(ConfigError, match="cannot write"):
        claim(str(tmp_path / "mine.txt" / "out"), SETTINGS, KIND)


def test_of_many_with_other_settings_one_has_the_folder(folder):
    won, refused = [], []

    def take(number):
        try:
            won.append(claim(folder, {"number": number}, KIND)["settings"]["number"])
        except ConfigError:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(refused) == 7
    assert read(folder, KIND)["settings"] == {"number": won[0]}
