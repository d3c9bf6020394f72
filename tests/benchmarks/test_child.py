"""A function in a process of its own: its answer and its mistakes come back."""

import json
import subprocess
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.benchmarks import child
from engine.benchmarks.config import EVIDENCE
from engine.benchmarks.run import run
from engine.errors import EXIT_CONFIG, ConfigError, ContractError
from engine.sources import InputConfig
from engine.storage import S3Config, storage_for, use_s3

CORE = "engine.benchmarks.alone:core"


def test_a_mistake_of_the_user_comes_back_as_one_line(config, tmp_path):
    missing = replace(config, input=InputConfig(str(tmp_path / "none.parquet"), id=None))
    question, answer = tmp_path / "request.json", tmp_path / "answer.json"
    question.write_text(json.dumps(missing.to_json()))
    assert child.main(CORE, str(question), str(answer)) == EXIT_CONFIG
    told = json.loads(answer.read_text())
    assert told["code"] == EXIT_CONFIG and "none.parquet" in told["error"]


def test_what_the_process_tells_is_raised_here(monkeypatch):
    def run(command, env):
        kinds = {"a": {"value": [1]}, "b": {"error": "it: is wrong", "code": EXIT_CONFIG}}
        if command[3] in kinds:
            with open(command[5], "w") as file:
                json.dump(kinds[command[3]], file)
        return subprocess.CompletedProcess(command, 9)

    monkeypatch.setattr(subprocess, "run", run)
    assert child.measure("a", {}) == [1]
    with pytest.raises(ConfigError, match=r"^it: is wrong$"):
        child.measure("b", {})
    with pytest.raises(ContractError, match="runs c ended with exit code 9"):
        child.measure("c", {})


def test_the_process_that_measures_reaches_s3_as_this_one_does(config, tmp_path, bucket, monkeypatch):
    def here(command, env):
        use_s3(S3Config())
        return subprocess.CompletedProcess(command, child.main(*command[3:]))

    monkeypatch.setattr(subprocess, "run", here)
    pq.write_table(pa.table({"text": [f"a report, number {i}" for i in range(6)]}), tmp_path / "a.parquet")
    assert storage_for(bucket).create(f"{bucket}/in/a.parquet", (tmp_path / "a.parquet").read_bytes())
    (rows,) = run(replace(config, input=InputConfig(f"{bucket}/in", id=None), parts=(EVIDENCE,)))
    assert [row.setting for row in rows] == ["3 whole real reports"] * 2
