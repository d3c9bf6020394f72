"""A function in a process of its own: its answer and its mistakes come back."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.benchmarks import alone, child
from engine.benchmarks.config import EVIDENCE
from engine.benchmarks.run import run
from engine.errors import ConfigError, ContractError
from engine.pipeline import ClusterConfig
from engine.sources import InputConfig
from engine.storage import S3Config, storage_for, use_s3


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def test_the_answer_comes_from_a_process_with_an_actors_environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    assert child.call(threads, cluster=ClusterConfig(threads=3)) == "3"
    assert child.call(threads, environment={"OMP_NUM_THREADS": "5"}) == "5"


def here(command, env):
    """In place of a process: the call, in this one."""
    return subprocess.CompletedProcess(command, child.main(*command[3:]))


def test_a_users_mistake_comes_back_as_one_line(config, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", here)
    missing = replace(config, input=InputConfig(str(tmp_path / "none.parquet"), id=None))
    with pytest.raises(ConfigError, match=r"none\.parquet") as caught:
        child.call(alone.compute_core, missing, tmp_path, print)
    assert "\n" not in str(caught.value)


def test_a_process_without_an_answer_is_a_bug(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, env: subprocess.CompletedProcess(command, 9))
    with pytest.raises(ContractError, match="runs threads ended with exit code 9"):
        child.call(threads)


def test_the_process_that_measures_reaches_s3_as_this_one_does(config, tmp_path, bucket, monkeypatch):
    def elsewhere(command, env):
        use_s3(S3Config())
        return here(command, env)

    monkeypatch.setattr(subprocess, "run", elsewhere)
    pq.write_table(pa.table({"text": [f"a report, number {i}" for i in range(6)]}), tmp_path / "a.parquet")
    assert storage_for(bucket).create(f"{bucket}/in/a.parquet", (tmp_path / "a.parquet").read_bytes())
    (rows,) = run(replace(config, input=InputConfig(f"{bucket}/in", id=None), parts=(EVIDENCE,)))
    assert [row.setting for row in rows] == ["3 real reports, whole"] * 2
