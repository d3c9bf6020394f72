"""Makes the learners of a training from its plain settings, in each of its workers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.encoders import (
    attention_for,
    check_window,
    encoder_digest,
    encoder_folder,
    load_encoder,
    load_tokenizer,
    pick_precision,
    special_ids,
)
from engine.errors import ConfigError
from engine.models.adapter import open_weights
from engine.models.base import ModelSpec, Worker
from engine.models.code_task import Task
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.config import ClassifierConfig, LearnConfig
from engine.models.site_classifier.examples import examples_of, prepared_table, whole_examples
from engine.models.site_classifier.head_learner import HeadLearner
from engine.models.site_classifier.learner import SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import encode

SYSTEM = "engine.models.site_classifier"
Labels = Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]


def classifier_config(model: Mapping[str, Any], labels: Labels, data: DataConfig) -> ClassifierConfig:
    """The architecture, with the labels of a `Survey`.

    Raises:
        ConfigError: a setting is invalid, or windows of that length do not fit the encoder.
    """
    encoder = model.get("encoder", "pkg:minilm")
    shape = {key: value for key, value in model.items() if key not in ("encoder", "base", "base_digest", "freeze_encoder")}
    check_window(encoder, shape.get("window", ClassifierConfig.window))
    return ClassifierConfig(
        tasks=tuple(Task(name, *labels[name], name in data.multi_label) for name in data.labels),
        paired=data.pair is not None,
        encoder=encoder,
        encoder_digest=encoder_digest(encoder),
        special=special_ids(load_tokenizer(encoder_folder(encoder))),
        **shape,
    )


def with_head(base: ClassifierConfig, model: Mapping[str, Any]) -> ClassifierConfig:
    """The architecture of a base with the head of other settings."""
    return replace(base, **{name: model[name] for name in ("head", "pool_heads", "phrase_reach") if name in model})


def learner(settings: Mapping[str, Any], worker: Worker) -> SiteLearner:
    """The network and a worker's stream of examples.

    Args:
        settings: `data`, `model` and `learn` as fields of their dataclasses, `precision`, `seed` and `examples`.
    """
    torch.manual_seed(settings["seed"])
    data, stored = DataConfig(**settings["data"]), worker.examples(settings["examples"])
    labels = {task: (tuple(names), tuple(support)) for task, (names, support) in stored.facts["labels"].items()}
    config = classifier_config(settings["model"], labels, data)
    device = str(worker.device)
    # Steps of an encoder whose own weights are tuned are smaller than bf16 can represent.
    dtype = pick_precision(settings.get("precision", "auto"), device) if config.rank else torch.float32
    encoder = load_encoder(config.encoder, dtype, attention_for(device))
    open_weights(encoder, config.rank)
    network = SiteNetwork(config, encoder)
    stream = stored.stream(lambda table: examples_of(table, config), data.held)
    return SiteLearner(network, stream, _learn(settings), worker.device)


def head_learner(settings: Mapping[str, Any], worker: Worker) -> HeadLearner:
    """Pools and linear layers on token states of a base's frozen encoder; each worker encodes every text once, into `cache`."""
    table = worker.examples(settings["examples"]).whole()
    runtime = {"device": str(worker.device), "threads": torch.get_num_threads(), "batch_tokens": 8192}
    coder = load_base(settings, runtime)
    states = encode(coder, prepared_table(table, coder.config), Path(settings["cache"], f"states-{worker.rank}"))
    torch.manual_seed(settings["seed"])
    network = SiteNetwork(with_head(coder.config, settings["model"]), coder.network.encoder)
    return HeadLearner(network, whole_examples(table, coder.config), states, _learn(settings), worker.device)


def load_base(settings: Mapping[str, Any], runtime: Mapping[str, Any]) -> SiteCoder:
    """The model for which a further head is trained, as the product loads it."""
    model = settings["model"]
    # The examples say whether there are second texts; the coder only wants to know that it may get some.
    options = {"method": "none", "checks": 0.0, "tasks": (), "precision": settings.get("precision", "auto"), "pair": "pair"}
    base = load(ModelSpec(SYSTEM, model["base"], options, runtime))
    if base.digest != model.get("base_digest", base.digest):
        raise ConfigError("model.base: it is not the model that this training began with; bring it back, or choose a new folder")
    return base


def _learn(settings: Mapping[str, Any]) -> LearnConfig:
    return LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
