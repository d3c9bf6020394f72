"""The main job as a Ray job: sent to the job server of a real head, which asks for a token, as a person would send it."""

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import assert_once, texts, write_input
from tests.toys.nodes import ROOT, Nodes, nodes

pytestmark = pytest.mark.timeout(900)
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


class Server:
    """A head with its job server, and what to send to it."""

    def __init__(self, head: Nodes, token: str) -> None:
        self.head, self._token = head, token

    def submit(self, name: str, *arguments: str) -> subprocess.Popen:
        """`ray job submit` from the top of the checkout. HF_HUB_OFFLINE is the job's own, and ours too."""
        options = ["--address", self.head.server, "--submission-id", name, "--working-dir", "."]
        brought = ["--runtime-env-json", json.dumps({"env_vars": {"HF_HUB_OFFLINE": "1"}})]
        return subprocess.Popen(
            [*RAY, "job", "submit", *options, *brought, "--", sys.executable, "-m", "jobs.code_reports", *arguments],
            cwd=ROOT,
            env=self.head.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, name: str, sent: subprocess.Popen) -> tuple[int, list[str]]:
        """The exit code of the job itself and the lines of its log; the submitter passes on whether it is 0."""
        message = sent.communicate(timeout=600)[0]
        assert f"Job '{name}' " in message, message
        code = self._ask(name)["driver_exit_code"]
        assert (sent.returncode, code == 0) in ((0, True), (1, False)), message
        return code, self._ask(f"{name}/logs")["logs"].splitlines()

    def _ask(self, what: str) -> dict:
        request = urllib.request.Request(f"{self.head.server}/api/jobs/{what}")
        request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(secrets.token_hex(32))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    # Credentials are the nodes' own, and never part of a command.
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    with nodes({"num_cpus": 2, "include_dashboard": True}, environment={**token, **keys}) as head:
        yield Server(head, path.read_text())


def test_the_main_job_as_a_ray_job(tmp_path: Path, server: Server) -> None:
    path = write_input(tmp_path / "in" / "a.jsonl", texts(30))
    with path.open("a") as file:
        file.write('{"id": "broken", "text": \n')
    command = [f"input.path={tmp_path}/in", "input.id=id", "model.system=tests.toys.plain", f"output.path={tmp_path}/out"]

    code, log = server.ended("first", server.submit("first", *command))
    assert code == 0, log
    assert not [line for line in log if "\r" in line or "\x1b" in line]
    # What is waited for is named only where it takes a while.
    progress = [line for line in log if line.startswith("coding ") or " of 31 reports" in line]
    assert progress[0] == "coding 1 shards" and len(progress) == 2 and progress[1].startswith("31 of 31 reports")
    assert any(line.startswith("Coded 31 records in ") for line in log)
    assert_once(tmp_path / "out", [*texts(30), "a.jsonl:30"], {"a.jsonl:30": "parse_error"})
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(tmp_path, "out").rglob("*"))

    # The same again; the same with an allowance that it exceeds; and one whose table would vanish. Side by side, to save time.
    sent = {
        "again": server.submit("again", *command),
        "strict": server.submit("strict", *command, "max_failed=0"),
        "relative": server.submit("relative", *command[:-1], "output.path=out"),
    }
    ends = {name: server.ended(name, each) for name, each in sent.items()}
    assert ends["again"][0] == 0
    assert "Nothing new to do: every record of the input has its row." in ends["again"][1]
    assert ends["strict"][0] == 4
    assert ends["relative"][0] == 2
    (refusal,) = [line for line in ends["relative"][1] if line.startswith("code_reports: ")]
    assert refusal.startswith("code_reports: output.path=out: lies in the folder of this Ray job, which is removed after it")
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(tmp_path, "out").rglob("*")) == before

    # What travelled is the code and nothing else that lies in a checkout.
    copies = Path(server.head.environment["RAY_TMPDIR"]).glob("ray/session_2*/runtime_resources/working_dir_files/*/")
    travelled = {name for copy in copies for name in os.listdir(copy) if name != "__pycache__"}
    assert travelled == {"engine", "jobs", "conf", "pyproject.toml"}


@pytest.mark.long
def test_the_shipped_model_as_a_ray_job_between_s3_paths(server: Server, store, bucket: str) -> None:
    import polars
    import s3fs

    s3 = s3fs.S3FileSystem(endpoint_url=store.url, use_listings_cache=False, skip_instance_cache=True)
    lines = [json.dumps({"id": f"r{i}", "text": f"Report {i}. Breast, left: invasive ductal carcinoma."}) for i in range(20)]
    s3.pipe(f"{bucket}/in/a.jsonl", "\n".join(lines).encode())
    command = [f"input.path={bucket}/in", "input.id=id", f"output.path={bucket}/out", f"storage.endpoint={store.url}"]
    command += ["cluster=cpu_cluster", "cluster.actors=1", "cluster.cpus_per_reader=0.25"]
    for name, message in (("s3", "Coded 20 records in "), ("s3-again", "Nothing new to do")):
        code, log = server.ended(name, server.submit(name, *command))
        assert code == 0 and any(line.startswith(message) for line in log), log
        assert not [line for line in log if "testing" in line]
    found = polars.concat(polars.read_parquet(s3.open(path)) for path in s3.glob(f"{bucket}/out/codes/*.parquet"))
    assert sorted(found["record_id"]) == sorted(f"r{i}" for i in range(20))
    assert set(found["site_code"]) == {"C50"}
