"""Paths within a submitted job, and the cluster settings that come along."""

import pytest

from engine.errors import ConfigError
from jobs._ray_job import check_paths
from jobs._run import run_config
from jobs.code_reports import main

COPY = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1/coded"


def settings(*overrides: str):
    values, missing = main.compose(["input.path=/in", "output.path=/out", *overrides], {})
    assert not missing
    return run_config(main.configured(values))


def test_outside_a_job_any_path_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    check_paths({"output.path": "coded", "input.path": COPY})


@pytest.mark.parametrize("path", ["coded", "./coded", "../coded", COPY])
def test_a_path_in_the_jobs_own_folder_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for key in ("input.path", "output.path", "model.path"):
        with pytest.raises(ConfigError, match=f"^{key}=.*removed after it"):
            settings(f"{key}={path}")


def test_other_paths_are_taken_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_paths({"input.path": "s3://bucket/in", "output.path": "/mnt/shared/coded"})
    assert settings().model.path == "shipped"


def test_one_machine_needs_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    laptop = settings("cluster=laptop").cluster
    assert (laptop.address, laptop.gpus_per_actor) == (None, 0)
    box = settings("cluster=gpu_box")
    assert (box.cluster.actors, box.cluster.gpus_per_actor) == (1, 1)
    assert box.model.runtime["device"] == "cuda"
    # Whatever the cores, an actor on each leaves CPUs to read with.
    assert laptop.actors * laptop.cpus_per_actor + laptop.cpus_per_reader < laptop.actors
    # This machine's cores say nothing about a cluster's.
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert settings("cluster=laptop").cluster.actors == 1


@pytest.mark.parametrize(("choice", "device"), [("cpu_cluster", "cpu"), ("gpu_cluster", "cuda")])
def test_a_cluster_wants_the_number_of_actors_and_never_starts_its_own_ray(choice: str, device: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.actors: on a running cluster give their number"):
        settings(f"cluster={choice}")
    found = settings(f"cluster={choice}", "cluster.actors=24")
    assert (found.cluster.address, found.cluster.actors, found.model.runtime["device"]) == ("auto", 24, device)
    assert found.cluster.threads >= 1
