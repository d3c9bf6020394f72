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


@pytest.mark.parametrize("path", ["gs://bucket/folder", "http://host/file", "s3://", "s3:///folder"])
def test_other_places_are_refused_in_one_line(path):
    with pytest.raises(ConfigError, match=r"give a local path or s3://|names no bucket"):
        storage_for(path)
