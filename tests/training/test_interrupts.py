"""A training job that is interrupted as Ctrl-C does it: the signal goes to the whole process group, whatever the job is at."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models.prompt_mrc.test_recipe import documents, job_keys, write
from tests.training.test_train_job import SETTINGS, corpus

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)


def started(words, start=("-m", "jobs.train")):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def interrupted(words, moment, seconds=0.0, **more):
    """The lines before the signal, which comes `seconds` after a line with `moment`, and those after it."""
    job, before = started(words, **more), []
    for line in job.stderr:
        before.append(line)
        if moment in line:
            time.sleep(seconds)
            os.killpg(job.pid, signal.SIGINT)
            break
    after = job.stderr.read().splitlines()
    assert job.wait() == 130, (before, after)
    return before, after


def site(folder):
    steps = ["train.report_every=1", "train.checkpoint_every=2"]
    return [*SETTINGS, *steps, f"data.path={corpus(folder)}", f"output.path={folder / 'model'}"]


def entities(folder):
    steps = ["train.report_every=1", "train.checkpoint_every=2"]
    data = write(folder / "made.parquet", documents(60))
    return ["model=prompt_mrc", *job_keys(), *steps, f"data.path={data}", f"output.path={folder / 'model'}"]


@pytest.mark.long
@pytest.mark.parametrize(("words", "late"), [(site, "scoring"), (entities, "tuning")])
def test_in_the_steps_and_in_what_follows_them_the_same_command_goes_on(tmp_path, words, late):
    words = words(tmp_path)
    _, after = interrupted(words, "step 3 of")
    messages = [line for line in after if line.startswith("train: ")]
    assert len(messages) == 1 and after[-1] == messages[0], after
    saved = int(messages[0].removeprefix("train: interrupted: the same command goes on after step ").split()[0])
    # Some steps may have been done and told between the line and the signal.
    assert saved >= 2 and saved % 2 == 0
    before, after = interrupted(words, late)
    next_step = "train: interrupted: all steps are done; the same command goes on with measuring"
    steps = [line.split()[1] for line in before if line.startswith("step ")]
    assert steps[0] == str(saved + 1)
    assert [line for line in after if line.startswith("train: ")] == [next_step] and after[-1] == next_step
    job = started(words)
    lines = job.stderr.read().splitlines()
    assert job.wait() == 0, lines
    assert not any(line.startswith("step ") for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("words", [site, entities])
@pytest.mark.parametrize("seconds", [0.3, 4.0])
def test_while_ray_starts(tmp_path, words, seconds):
    _, after = interrupted(words(tmp_path), "starting the workers", seconds)
    message = "train: interrupted: no step is saved yet; the same command starts at the first step"
    assert [line for line in after if line.startswith("train: ")] == after[-1:] == [message], after


@pytest.mark.parametrize(("words", "reads"), [(site, "site_classifier.ReportSurvey.of"), (entities, "prompt_mrc.load_corpus")])
def test_while_the_input_is_read(tmp_path, words, reads):
    system, _, name = reads.partition(".")
    slow = f"""
import sys, time
import engine.models.{system}.recipe as module
from jobs.train import main

def slow(*given):
    print("reading", file=sys.stderr, flush=True)
    time.sleep(60)

module.{name} = slow
main()
"""
    _, after = interrupted(words(tmp_path), "reading", start=["-c", slow])
    assert after == ["train: interrupted: nothing is trained yet; the same command starts from scratch"]


@pytest.mark.long
def test_while_ray_reads_the_input(tmp_path):
    """An input of several pieces is tokenized by Ray's workers."""
    words = [*site(tmp_path), "data.synthetic=20000"]
    _, after = interrupted(words, "tokenizing", 15.0)
    assert [line for line in after if line.startswith("train: ")] == after[-1:], after
