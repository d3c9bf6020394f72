"""A tiny model to measure, and sizes at which it takes seconds."""

from dataclasses import replace

import pytest
import torch

from engine.benchmarks.config import BenchConfig
from engine.encoders import encoder_digest, load_encoder
from engine.models.base import ModelSpec
from engine.models.code_task import Task, TaskCalibration
from engine.models.site_classifier.checkpoint import write_checkpoint
from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.network import SiteNetwork
from tests.models.clear import tiny
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

SYSTEM = "engine.models.site_classifier"


@pytest.fixture(scope="session")
def spec(tmp_path_factory) -> ModelSpec:
    """A checkpoint of two tasks on the tiny encoder, with random heads."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tasks = tuple(Task(name, ("a", "b", "c"), (20, 20, 20)) for name in ("site", "histology"))
    config = ClassifierConfig(tasks, "tiny:bert", encoder_digest("tiny:bert"), window=30, pool_heads=2, pool_width=8)
    torch.manual_seed(3)
    network = SiteNetwork(config, load_encoder("tiny:bert", torch.float32, "eager"))
    tensors = {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}
    calibration = {task.name: TaskCalibration(1.0, 0.9, {}) for task in tasks}
    write_checkpoint(folder, config, tensors, calibration, "gradient_x_input", frozenset(), "tiny")
    return ModelSpec(SYSTEM, str(folder), {"precision": "fp32"})


@pytest.fixture(scope="session")
def entities(tmp_path_factory) -> ModelSpec:
    """A model of another system, which says nothing of its own to a benchmark."""
    folder = tmp_path_factory.mktemp("entities") / "tiny"
    write(tiny_learner(tiny_config(mode="soft"), World.make(2)), folder)
    return ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32"})


@pytest.fixture
def config(spec, tmp_path) -> BenchConfig:
    """Everything at toy size."""
    return BenchConfig(
        spec,
        work=str(tmp_path),
        memory_reports=(20, 40),
        core_reports=4,
        evidence_reports=3,
        loop_reports=24,
        s3_reports=24,
        repeats=1,
        loop_repeats=1,
        batch_sizes=(1, 2),
    )


@pytest.fixture
def of_images(config, tmp_path) -> BenchConfig:
    """The same of a system that reads images."""
    folder = tiny.write(tmp_path / "clear")
    return replace(config, model=ModelSpec("engine.models.clear", str(folder), {"precision": "fp32"}, {"threads": 1}))


@pytest.fixture
def of_entities(config, entities) -> BenchConfig:
    """The same of the other system."""
    return replace(config, model=entities)
