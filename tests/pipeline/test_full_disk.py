"""A disk that is full, at any step of a run and in earnest: one line, exit code 3, and afterwards an exact end."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import RetryableError
from tests.pipeline.conftest import Bench, assert_once, config, rows, texts, write_input

ROOT = Path(__file__).resolve().parents[2]
WRITING = ("fsync", "link", "replace", "mkdir")


@contextmanager
def full_from(step: int) -> Iterator[list[str]]:
    """From the n-th call that writes on, every one finds the disk full. Gives the calls so far."""
    calls: list[str] = []
    real = {name: getattr(os, name) for name in WRITING}

    def wrap(name: str):
        def call(*values, **named):
            calls.append(name)
            if len(calls) >= step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*values, **named)

        return call

    for name in WRITING:
        setattr(os, name, wrap(name))
    try:
        yield calls
    finally:
        for name in WRITING:
            setattr(os, name, real[name])


def go(path: Path, output: Path, attempt: int) -> None:
    bench = Bench(config(path, output))
    bench.code(attempt)
    bench.publish()


def test_a_disk_that_fills_at_any_step_is_told_and_the_run_goes_on_afterwards(tmp_path):
    names = list(texts(12))
    path = write_input(tmp_path / "in" / "a.jsonl", texts(12)).parent
    step, ended = 0, False
    while not ended:
        step += 1
        output = tmp_path / f"out{step}"
        with full_from(step) as calls:
            try:
                go(path, output, 1)
                ended = True
            except RetryableError as error:
                assert "\n" not in str(error), calls[-1]
        if not ended:
            go(path, output, 2)
        assert_once(output, names)
        assert not list(output.rglob("*.tmp")), calls[-1]
    assert step > 20


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 160 KiB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "marginalia-test", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, timeout=60).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


@pytest.mark.timeout(400)
@pytest.mark.long
def test_a_run_on_a_disk_that_is_really_too_small(tmp_path, small_disk, cluster):
    write_input(tmp_path / "in" / "a.jsonl", texts(60))
    order = {"input": str(tmp_path / "in"), "output": str(small_disk / "out"), "shard_bytes": 400}
    order["cluster"] = {"address": cluster, "child_memory_gb": 0.5}

    def drive() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tests.toys.drive", json.dumps(order)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)

    first = drive()
    assert first.returncode == 3, first.stderr[-2000:]
    lines = [line for line in first.stderr.splitlines() if "no space left" in line or "more disk" in line]
    assert len(lines) == 1
    assert "Traceback" not in first.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True, timeout=60)
    second = drive()
    assert second.returncode == 0, second.stderr[-2000:]
    assert_once(small_disk / "out", list(texts(60)))
    assert rows(small_disk / "out")
