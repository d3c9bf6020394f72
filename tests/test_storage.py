import os
import subprocess
import threading

import pytest

from engine.errors import ConfigError, InputChanged, RetryableError
from engine.storage import LocalStorage, storage_for


@pytest.fixture
def storage():
    return LocalStorage()


def test_of_many_creators_exactly_one_is_told_so(storage, tmp_path):
    path, won = str(tmp_path / "sub" / "lock"), []
    threads = [threading.Thread(target=lambda n=n: won.append(n) if storage.create(path, b"%d" % n) else None) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read(path) == b"%d" % won[0]
    assert os.listdir(tmp_path / "sub") == ["lock"]


def test_a_writer_that_fails_leaves_nothing(storage, tmp_path):
    with pytest.raises(KeyError), storage.writer(str(tmp_path / "a")) as file:
        file.write(b"half")
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_writer_replaces_as_a_whole(storage, tmp_path):
    path = str(tmp_path / "a")
    storage.create(path, b"old")
    with storage.writer(path) as file:
        file.write(b"new")
        assert storage.read(path) == b"old"
    assert storage.read(path) == b"new"


def test_listing_is_sorted_and_leaves_out_hidden_and_temporary_files(storage, tmp_path):
    for name in ("b/2", "a", "b/1", ".hidden", "x.tmp", ".git/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12")
    found = list(storage.list(str(tmp_path)))
    assert [os.path.relpath(entry.path, tmp_path) for entry in found] == ["a", "b/1", "b/2"]
    assert {entry.size for entry in found} == {2}


def test_what_is_not_there_is_none(storage, tmp_path):
    missing = str(tmp_path / "none")
    assert list(storage.list(missing)) == []
    assert storage.stat(missing) is None and storage.read(missing) is None
    assert storage.stat(str(tmp_path)) is None
    storage.remove(missing)
    storage.remove_folder(missing)


def test_a_changed_file_is_not_opened(storage, tmp_path):
    path = str(tmp_path / "a")
    storage.create(path, b"one")
    entry = storage.stat(path)
    assert storage.open(path, entry).read() == b"one"
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputChanged, match="changed or vanished"):
        storage.open(path, entry)


def test_links_can_be_made_again_and_after_the_source_is_gone(storage, tmp_path):
    source, target = str(tmp_path / "s"), str(tmp_path / "folder" / "t")
    assert not storage.link(source, target)
    storage.create(source, b"x")
    assert storage.link(source, target) and storage.link(source, target)
    storage.remove(source)
    assert storage.link(source, target)
    assert storage.read(target) == b"x"


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_user(storage, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        storage.create(str(tmp_path / "file" / "a"), b"")


def test_a_full_disk_is_worth_another_try_and_leaves_nothing(storage, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(RetryableError, match="no space left"):
            storage.create(str(disk / "a"), b"x" * 200_000)
        with pytest.raises(RetryableError), storage.writer(str(disk / "b")) as file:
            file.write(b"x" * 200_000)
        assert os.listdir(disk) == []
        assert storage.create(str(disk / "c"), b"small")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_other_places_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="not supported"):
        storage_for("s3://bucket/folder")
