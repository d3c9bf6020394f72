"""What Ray Train makes of a worker that fails, and what a user is told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from engine.errors import ConfigError, ContractError, RetryableError
from engine.training.fit import FitConfig, fit

ROOT = Path(__file__).resolve().parents[2]
CANARY = "CANARYPHRASE"
pytestmark = pytest.mark.timeout(300)


def failing(settings, worker):
    """A learner that cannot be built, each time in the way that is asked for; counts the tries."""
    with open(settings["tries"], "a") as file:
        file.write("x")
    if settings["how"] == "mistake":
        raise ConfigError("data: no column")
    if settings["how"] == "bug":
        raise ValueError(CANARY)
    os._exit(9)


@pytest.fixture(scope="module")
def session() -> Iterator[Path]:
    """Ray's folder of this session, where its logs are; another test's Ray is used and left alone."""
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_worker_niceness", "0")
        environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield Path(ray._private.worker._global_node.get_session_dir_path())
    if started:
        ray.shutdown()


@pytest.mark.parametrize(
    ("how", "kind", "told", "tries"),
    [
        ("mistake", ConfigError, "data: no column", 1),
        ("bug", ContractError, r"training raised ValueError at test_fit\.py:\d+", 1),
        pytest.param("die", RetryableError, "run the same command", 2, marks=pytest.mark.long),
    ],
)
def test_a_failed_worker_is_told_as_what_it_is(tmp_path, session, how, kind, told, tries):
    settings = {"how": how, "tries": str(tmp_path / "tries")}
    retries = 0 if how == "bug" else 1
    with pytest.raises(kind, match=told) as caught:
        fit(FitConfig(f"{__name__}:failing", settings, max_failures=retries), tmp_path / "out", print)
    assert len((tmp_path / "tries").read_text()) == tries
    assert "\n" not in str(caught.value) and CANARY not in str(caught.value)
    for path in (session / "logs").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
