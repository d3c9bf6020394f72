"""Ray, as the training uses it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).resolve().parents[2]


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
