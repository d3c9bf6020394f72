"""docs/cluster.md: its commands have keys that exist, and its first chapter works as it is written, from `ray start` on."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jobs import _help

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"python -m jobs\.(\w+) (.*)", PAGE.replace("\\\n", ""))


def test_every_command_of_the_page_composes() -> None:
    jobs = {job.name: job for job in _help.jobs()}
    assert len(COMMANDS) >= 8
    for name, words in COMMANDS:
        assert not jobs[name].compose(shlex.split(words, comments=True), {})[1], words


@contextlib.contextmanager
def network() -> Iterator[list[str]]:
    """What to put before a command that shall have the ports of a machine to itself, since the page names Ray's own."""
    enter = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 7200"]
    try:
        holder = subprocess.Popen(enter, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip("needs unshare, of util-linux")
    try:
        if holder.stdout.readline() != "up\n":
            pytest.skip("needs the right to make a network namespace, and ip, of iproute2")
        yield ["nsenter", "--target", str(holder.pid), "--user", "--net", "--preserve-credentials"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def processes(folder: Path) -> list[psutil.Process]:
    """All that run with this folder for their HOME."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def terminal(lines: str, home: Path, prefix: list[str]) -> Iterator[None]:
    """Lines of which the last stays; once more where a busy machine does not keep the seconds that Ray gives a node to start."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment = {**inherited, "HOME": str(home), "RAY_TMPDIR": str(home), "PYTHONPATH": str(ROOT)}
    environment["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = "600"  # after a minute, Ray goes on without
    log = home / "head.log"
    for _ in range(10):
        with log.open("w") as out:
            head = subprocess.Popen(
                [*prefix, "bash", "-ec", lines], cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        while head.poll() is None and "Ray runtime started." not in log.read_text():
            time.sleep(0.5)
        if head.poll() is None or "timed out during startup" not in log.read_text():
            break
    assert head.poll() is None, log.read_text()
    try:
        yield
    finally:
        os.killpg(head.pid, signal.SIGINT)  # as Ctrl-C does
        head.wait(120)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_first_chapter_works_as_it_is_written() -> None:
    chapter = PAGE.split("\n## From `ray start` to a table\n")[1].split("\n## ")[0]
    first, *others = re.findall(r"^```sh\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    home = Path(tempfile.mkdtemp(prefix="ray"))  # short, since sockets lie there
    try:
        with network() as prefix:
            with terminal(first, home, prefix):
                environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
                second = subprocess.run(
                    [*prefix, "bash", "-ec", "".join(others)],
                    cwd=ROOT,
                    env={name: value for name, value in environment.items() if not name.startswith("RAY_")},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                assert second.returncode == 0, second.stdout
            left = processes(home)
            assert not left, left
        assert (home / ".ray" / "auth_token").stat().st_mode & 0o77 == 0
        assert second.stdout.count("Coded 50 records in ") == 2, second.stdout  # as it came, and from `ray job logs`
        assert "Job 'first' succeeded" in second.stdout and "Job 'again' succeeded" in second.stdout
        assert "Nothing new to do: every record of the input has its row." in second.stdout
        assert list((home / "try" / "coded" / "codes").glob("*.parquet"))
    finally:
        for process in processes(home):
            process.kill()
        shutil.rmtree(home, ignore_errors=True)
