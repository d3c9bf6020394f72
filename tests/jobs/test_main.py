"""All jobs by one name: the list, the run, and what an installed wheel has."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from jobs import __main__ as door
from jobs import _help

ROOT = Path(__file__).parents[2]


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["marginalia", *words])
    with pytest.raises(SystemExit) as end:
        door.main()
    return end.value.code


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_without_a_job_all_are_listed_with_a_sentence_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: tuple
) -> None:
    assert ended(monkeypatch, *words) == 0
    message = " ".join(capsys.readouterr().out.split())
    jobs = _help.jobs()
    assert door.job_names() == [job.name for job in jobs]
    for job in jobs:
        assert f" {job.name} {job.about.partition('. ')[0].rstrip('.')}. " in message
    assert "marginalia <job> --help" in message


def test_a_misspelt_job_is_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert ended(monkeypatch, "code_report", "input.path=x") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "marginalia: no job 'code_report' (did you mean 'code_reports'?); without a name it lists them\n")
    assert ended(monkeypatch, "_front") == 2


def test_a_job_gets_the_rest_of_the_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert ended(monkeypatch, "status", f"output.path={tmp_path}") == 2
    assert capsys.readouterr().err == f"status: {tmp_path} holds no run; give the output.path of one\n"
    # What a job writes down as its command is the same by either door.
    assert sys.argv[1:] == [f"output.path={tmp_path}"]


def test_the_list_comes_at_once_and_loads_nothing_heavy() -> None:
    begun = time.monotonic()
    assert subprocess.run([sys.executable, "-m", "jobs"], cwd=ROOT, capture_output=True).returncode == 0
    assert time.monotonic() - begun < 10
    heavy = (
        "import sys; import jobs.__main__ as door; door.listing(); "
        "sys.exit(bool({'torch', 'ray', 'transformers', 'pyarrow', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", heavy], cwd=ROOT).returncode == 0


def test_the_command_of_the_package_is_this_door() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert list(scripts) == ["marginalia"]
    assert EntryPoint("marginalia", scripts["marginalia"], "console_scripts").load() is door.main


@pytest.mark.long
def test_a_wheel_has_all_that_the_jobs_need(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("engine", "jobs", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = {path.relative_to(ROOT).as_posix() for name in ("engine", "jobs", "conf") for path in (ROOT / name).rglob("*")}
    studies = ("engine/studies/", "jobs/study/", "conf/study/")
    wanted = {name for name in files if (ROOT / name).is_file() and "__pycache__" not in name and not name.startswith(studies)}
    packed = zipfile.ZipFile(wheel).namelist()
    assert wanted - set(packed) == set()
    assert not [name for name in packed if name.startswith(studies)]
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    # In front of the checkout that the environment knows.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, str(site / "bin" / "marginalia")]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def answer(*words: str) -> str:
        done = subprocess.run([*command, *words], cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "code_reports" in answer()
    for name in door.job_names():
        assert f"usage: python -m jobs.{name}" in answer(name, "--help")
    assert "cluster=cpu_cluster|gpu_box|gpu_cluster|laptop" in answer("code_reports", "--help")
    where = [sys.executable, "-c", "import jobs, engine; print(jobs.__file__, engine.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True).stdout
    assert found.count(str(site)) == 2


def test_an_interrupt_before_a_job_has_begun_is_one_line() -> None:
    # The module's own loading is interrupted, as by Ctrl-C in its first second.
    script = (
        "import runpy, sys; sys.argv[0] = '-m'; import jobs\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'jobs._front': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_module('jobs.status', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    # A shell shows the death by this signal as 130.
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "interrupted; run the same command again\n")
