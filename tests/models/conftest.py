"""A tiny site classifier with random weights, as a checkpoint folder, and reports for it."""

import pyarrow as pa
import pytest
import torch

from engine.encoders import encoder_digest, load_encoder
from engine.models import checkpoint
from engine.models.adapter import attach
from engine.models.base import ModelSpec
from engine.models.code_task import Task, TaskCalibration
from engine.models.site_classifier import load
from engine.models.site_classifier.checkpoint import write_checkpoint
from engine.models.site_classifier.config import ClassifierConfig
from engine.models.site_classifier.network import SiteNetwork
from engine.models.tokens import Batch
from engine.records import records_schema

TASKS = (
    Task("site", ("C18", "C34", "C50", "C61"), (100, 80, 60, 3)),
    Task("histology", ("8070/3", "8140/3", "8500/3"), (50, 90, 70)),
)
TEXTS = [
    "Colon, sigmoid, segmental resection: moderately differentiated adenocarcinoma, pT3 N1.",
    "LUNG, left  upper lobe\r\nsquamous cell carcinoma 😀 4.5 cm, margins free.",
    "Brust: invasives duktales Karzinom, Größe 12 µm; café au lait.",
    "Prostate needle biopsy. " * 60,
    "x",
]


def tiny_config(**changes):
    values = {"tasks": TASKS, "encoder": "tiny:bert", "rank": 2, "window": 24, "pool_heads": 2, "pool_width": 8, **changes}
    return ClassifierConfig(**{"encoder_digest": encoder_digest(values["encoder"]), **values})


def windows(text, record):
    """A batch whose windows have text where `text` [W, L] is true; its tokens are of no account."""
    blank = torch.zeros(text.shape, dtype=torch.long)
    count = max(record) + 1
    return Batch(blank, torch.ones_like(blank), text, blank, torch.tensor(record), blank, list(range(count)))


def tiny_tensors(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        encoder = load_encoder(config.encoder, torch.float32, "eager")
        attach(encoder, config.rank)
        network = SiteNetwork(config, encoder)
        for name, value in network.named_parameters():
            if value.requires_grad:
                torch.nn.init.normal_(value, std=0.5 if "head" in name or "pool" in name else 0.1)
    trained = network.state_dict().items()
    return {name: value for name, value in trained if not name.startswith("encoder.") or name.endswith((".down", ".up"))}


def head_tensors(network):
    """The tensors of the pools and linear layers."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}


def write_tiny(folder, config=None, **calibration):
    config = config or tiny_config()
    values = {"temperature": 2.0, "threshold": 0.4, **calibration}
    fitted = {task.name: TaskCalibration(**values) for task in config.tasks}
    write_checkpoint(folder, config, tiny_tensors(config), fitted, "gradient_x_input", frozenset(), "a card\n")
    return folder


def revise(base, output, calibration, card=""):
    """Writes `base` with another calibration; returns the digest."""
    return checkpoint.write_revision(str(output), base.folder, base.revised(calibration), card, base.part)


def records(texts, keep=None):
    count = len(texts)
    fields = [] if keep is None else [pa.field(name, pa.string()) for name in keep]
    kept = [{name: values[i] for name, values in keep.items()} for i in range(count)] if keep else [{}] * count
    columns = {
        "row": range(count),
        "record_id": [f"r{i}" for i in range(count)],
        "source": ["f"] * count,
        "position": range(count),
        "text": texts,
        "failure": [None] * count,
        "keep": kept,
    }
    return pa.table(columns, schema=records_schema(fields))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "model")


def coder(folder, runtime=None, **options):
    return load(ModelSpec("engine.models.site_classifier", str(folder), {"precision": "fp32", **options}, runtime or {}))


def coded(system, texts, **more):
    return system.run(system.prepare(records(texts, **more))).sort_by("row").to_pylist()
