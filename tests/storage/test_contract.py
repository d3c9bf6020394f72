"""What every storage promises, kept by the local one and by S3."""

import io
import os
import threading

import pytest

from engine.errors import InputChanged
from engine.storage import full_path, inside, probe, storage_for


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    """A folder of its own for each test."""
    return str(tmp_path) if request.param == "local" else f"{request.getfixturevalue('bucket')}/folder"


@pytest.fixture
def storage(root):
    return storage_for(root)


def names(storage, root):
    return [entry.path.removeprefix(root + "/") for entry in storage.list(root)]


def test_of_many_creators_exactly_one_is_told_so(storage, root):
    path, won = f"{root}/sub/lock", []
    threads = [threading.Thread(target=lambda n=n: won.append(n) if storage.create(path, b"%d" % n) else None) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read(path) == b"%d" % won[0]
    assert names(storage, root) == ["sub/lock"]


@pytest.mark.parametrize("size", [4, 20 * 2**20])
def test_a_writer_that_fails_leaves_nothing(storage, root, size):
    with pytest.raises(KeyError), storage.writer(f"{root}/a") as file:
        file.write(b"h" * size)
        raise KeyError
    assert names(storage, root) == [] and storage.stat(f"{root}/a") is None


@pytest.mark.parametrize("size", [0, 3, 40 * 2**20])
def test_a_writer_replaces_as_a_whole(storage, root, size):
    path = f"{root}/a"
    storage.create(path, b"old")
    with storage.writer(path) as file:
        file.write(b"n" * size)
        assert file.tell() == size
        assert storage.read(path) == b"old"
    assert storage.read(path) == b"n" * size
    assert storage.stat(path).size == size


def test_listing_is_sorted_and_leaves_out_hidden_and_temporary_files(storage, root):
    for name in ("b/2", "a", "b/1", "b.c", ".hidden", "x.tmp", ".git/c", "B", "ä ö+%41/[1]"):
        assert storage.create(f"{root}/{name}", b"12")
    storage.create(f"{root}beside", b"")
    assert names(storage, root) == ["B", "a", "b.c", "b/1", "b/2", "ä ö+%41/[1]"]
    assert names(storage, root + "/b") == ["1", "2"]
    found = list(storage.list(root))
    assert [storage.stat(entry.path) for entry in found] == found
    assert {entry.size for entry in found} == {2}


def test_what_is_not_there_is_none(storage, root):
    missing = f"{root}/none"
    assert list(storage.list(missing)) == []
    assert storage.stat(missing) is None and storage.read(missing) is None and not storage.is_folder(missing)
    with pytest.raises(FileNotFoundError):
        storage.open(missing).read()
    storage.remove(missing)
    storage.remove_all([missing])
    storage.remove_folder(missing)


def test_a_folder_is_no_file(storage, root):
    storage.create(f"{root}/in/a", b"")
    assert storage.is_folder(f"{root}/in") and storage.is_folder(root) and not storage.is_folder(f"{root}/in/a")
    assert storage.stat(f"{root}/in") is None


def test_a_changed_file_is_not_read(storage, root):
    path = f"{root}/a"
    storage.create(path, b"one")
    entry = storage.stat(path)
    assert storage.open(path, entry).read() == b"one"
    with storage.writer(path) as file:
        file.write(b"two")
    with pytest.raises(InputChanged, match="changed or vanished"):
        storage.open(path, entry).read()
    storage.remove(path)
    with pytest.raises(InputChanged, match="changed or vanished"):
        storage.open(path, entry).read()


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("size", [0, 5, 3 * 2**20 + 7])
def test_a_file_is_read_from_anywhere(storage, root, size, planned):
    path, data = f"{root}/a", bytes(i * i % 251 for i in range(5)) + b"x" * max(0, size - 5) if size else b""
    storage.create(path, data)
    with storage.open(path, storage.stat(path) if planned else None) as file:
        assert file.seek(0, io.SEEK_END) == len(data)
        assert file.read() == b""
        for at, count in ((0, 3), (2, 1), (max(0, len(data) - 4), 10), (1_000_000, 2_000_000), (0, -1)):
            file.seek(at)
            assert file.read(count) == (data[at:] if count < 0 else data[at : at + count])
            assert file.tell() == max(at, min(len(data), at + count if count >= 0 else len(data)))


def test_links_can_be_made_again_and_after_the_source_is_gone(storage, root):
    source, target = f"{root}/s", f"{root}/folder/t"
    assert not storage.link(source, target)
    storage.create(source, b"x")
    assert storage.link(source, target) and storage.link(source, target)
    storage.remove(source)
    assert storage.link(source, target)
    assert storage.read(target) == b"x"


def test_folders_are_removed_with_all_that_is_hidden(storage, root):
    for name in ("in/a", "in/.b", "in/c.tmp", "out"):
        storage.create(f"{root}/{name}", b"")
    storage.remove_folder(f"{root}/in")
    assert not storage.is_folder(f"{root}/in")
    storage.create(f"{root}/in/a", b"")
    storage.remove_all([f"{root}/in/a", f"{root}/out"])
    assert names(storage, root) == []


def test_scratch_is_local_and_gone_afterwards(storage, root):
    with storage.scratch(f"{root}/scratch") as folder, open(f"{folder}/a", "w") as file:
        file.write("x")
    assert not os.path.exists(f"{folder}/a")


def test_a_good_store_passes_the_probe_and_nothing_is_left(storage, root):
    assert probe(root)
    assert not storage.is_folder(f"{root}/x") and names(storage, root) == []


@pytest.mark.parametrize(
    ("path", "folder", "answer"),
    [
        ("s3://b/in/out", "s3://b/in/", True),
        ("s3://b/in", "s3://b", True),
        ("s3://b/in", "s3://b/in", True),
        ("s3://b/input", "s3://b/in", False),
        ("s3://c/in", "s3://b/in", False),
        ("/in/out", "s3://in", False),
        ("/in/../out", "/in", False),
        ("/in/x/../out", "/in", True),
        ("/in", "/", True),
    ],
)
def test_inside(path, folder, answer):
    assert inside(path, folder) is answer


def test_full_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert full_path("a/../b") == str(tmp_path / "b")
    assert full_path("s3://bucket/a/../b//") == "s3://bucket/a/../b"
