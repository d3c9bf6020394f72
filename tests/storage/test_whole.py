"""Local files and folders that are there whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.storage import whole_file, whole_folder

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import os, signal, sys
from engine.storage import whole_file, whole_folder
with (whole_file if sys.argv[1] == "file" else whole_folder)(sys.argv[2]) as part:
    (part if sys.argv[1] == "file" else part / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_takes_its_name_at_the_end(tmp_path):
    file = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with whole_file(file) as part:
            part.write_text(text)
            assert part.parent == file.parent and (not file.exists() or file.read_text() == "one")
        assert file.read_text() == text
    assert os.listdir(file.parent) == ["a.txt"]


def test_a_folder_that_another_was_faster_with_stays(tmp_path):
    folder = tmp_path / "a"
    with whole_folder(folder) as part:
        (part / "x").write_text("slow")
        with whole_folder(str(folder)) as other:
            (other / "x").write_text("fast")
    assert (folder / "x").read_text() == "fast" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_fails_leaves_nothing(tmp_path, whole):
    with pytest.raises(KeyError), whole(tmp_path / "a") as part:
        (part if whole is whole_file else part / "x").write_text("half")
        raise KeyError
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"), whole(tmp_path / "file" / "a"):
        pass


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_process_killed_while_it_writes_leaves_no_half(tmp_path, kind):
    target = tmp_path / "a"
    if kind == "file":
        target.write_text("before")
    command = [sys.executable, "-c", DIES, kind, str(target)]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60).returncode == -signal.SIGKILL
    assert target.read_text() == "before" if kind == "file" else not target.exists()
    assert all(path.name.startswith(".") and path.name.endswith(".tmp") for path in tmp_path.iterdir() if path != target)
