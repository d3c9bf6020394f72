import errno
import os
import subprocess

import pytest

from engine.errors import ConfigError, RetryableError
from engine.storage import LocalStorage, storage_for


@pytest.fixture
def storage():
    return LocalStorage()


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


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_share_without_hard_links_is_a_mistake_of_the_user_and_left_clean(storage, tmp_path, monkeypatch, code):
    def refuse(source, target):
        raise OSError(code, os.strerror(code))

    (tmp_path / "staged").write_text("")
    monkeypatch.setattr(os, "link", refuse)
    for take in (
        lambda: storage.create(str(tmp_path / "a"), b"x"),
        lambda: storage.link(str(tmp_path / "staged"), str(tmp_path / "a")),
    ):
        with pytest.raises(ConfigError, match=r"without hard links.*name an output folder on a local disk") as error:
            take()
        assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["staged"]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.EXDEV, "another file system or mount lies within the output folder"),
        (errno.EMLINK, "allows no more links"),
        (errno.EPERM, "another user has written .*staged"),
    ],
)
def test_a_link_that_cannot_be_made_though_there_are_links_is_told_as_what_it_is(storage, tmp_path, monkeypatch, code, line):
    def refuse(source, target):
        raise OSError(code, os.strerror(code))

    (tmp_path / "staged").write_text("")
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path / "staged").st_uid + 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=line) as error:
        storage.link(str(tmp_path / "staged"), str(tmp_path / "a"))
    assert "\n" not in str(error.value) and "without hard links" not in str(error.value)
    assert os.listdir(tmp_path) == ["staged"]


@pytest.mark.parametrize("path", ["gs://bucket/folder", "http://host/file", "s3://", "s3:///folder"])
def test_other_places_are_refused_in_one_line(path):
    with pytest.raises(ConfigError, match=r"give a local path or s3://|names no bucket"):
        storage_for(path)


def names(storage, folder):
    return [os.path.relpath(entry.path, folder) for entry in storage.list(str(folder))]


def test_links_lead_to_each_folder_once_and_never_in_circles(storage, tmp_path):
    for name in ("in/b/1", "in/c/2", "elsewhere/3", "in/_old/v1/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    links = {
        "in/b/up": "..",
        "in/a": "b",
        "in/z": "../elsewhere",
        "in/y": "../elsewhere",
        "elsewhere/back": "../in",
        "in/latest": "_old/v1",
        "in/self": "self",
        "in/gone": "nowhere",
        "in/c/link-to-1": "../b/1",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    # A folder that begins with `_` is not preferred to a link to it.
    assert names(storage, tmp_path / "in") == ["b/1", "c/2", "c/link-to-1", "latest/4", "y/3"]
    assert storage.stat(str(tmp_path / "in/self")) is None


def test_folders_that_all_link_to_each_other_are_listed_at_once(storage, tmp_path):
    for i in range(14):
        (tmp_path / f"{i:02}").mkdir()
        (tmp_path / f"{i:02}" / "file").write_text("")
        for j in range(14):
            (tmp_path / f"{i:02}" / f"to{j:02}").symlink_to(f"../{j:02}")
    assert names(storage, tmp_path) == [f"{i:02}/file" for i in range(14)]


def test_a_folder_that_may_not_be_listed_is_named(storage, tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match=r"cannot list .*: Permission denied"):
        list(storage.list(str(tmp_path)))
