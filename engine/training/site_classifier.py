"""The site classifier in the training loop: settings to a learner, in each worker."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from engine.encoders import (
    attention_for,
    encoder_digest,
    encoder_folder,
    load_encoder,
    load_tokenizer,
    pick_precision,
    special_ids,
)
from engine.models.adapter import attach
from engine.models.site_classifier.calibrating import gold
from engine.models.site_classifier.config import ClassifierConfig, Task
from engine.models.site_classifier.learner import Examples, LearnConfig, SiteLearner
from engine.models.site_classifier.network import SiteNetwork
from engine.text.tokens import tokenize
from engine.training.data import DataConfig, label_sets, load_examples
from engine.training.loop import Worker
from engine.training.rationales import KINDS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engine.text.tokens import TokenizedText


def learner(settings: Mapping[str, Any], worker: Worker) -> SiteLearner:
    """Builds data and network from plain settings: `data`, `model` and `learn` as fields of their dataclasses, and `seed`."""
    torch.manual_seed(settings["seed"])
    examples = load_examples(DataConfig(**settings["data"]))
    config = classifier_config(settings["model"], examples, DataConfig(**settings["data"]))
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    device = str(worker.device)
    encoder = load_encoder(config.encoder, pick_precision(settings.get("precision", "auto"), device), attention_for(device))
    attach(encoder, config.rank)
    network = SiteNetwork(config, encoder)
    learn = LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
    return SiteLearner(network, tokenized(examples, config, tokenizer), learn, worker.device)


def classifier_config(model: Mapping[str, Any], examples: pa.Table, data: DataConfig) -> ClassifierConfig:
    """The architecture, with label sets from the training examples."""
    sets = label_sets(examples, list(data.labels))
    encoder = model.get("encoder", "pkg:minilm")
    named = {key: value for key, value in model.items() if key != "encoder"}
    return ClassifierConfig(
        tasks=tuple(Task(name, *sets[name], name in data.multi_label) for name in data.labels),
        paired=data.pair is not None,
        encoder=encoder,
        encoder_digest=encoder_digest(encoder),
        special=special_ids(load_tokenizer(encoder_folder(encoder))),
        **named,
    )


def tokenized(examples: pa.Table, config: ClassifierConfig, tokenizer: "Tokenizer", max_tokens: int = 16384) -> Examples:
    """Examples as arrays. A label that is not in a task's label set counts as none."""
    texts = examples["text"].to_pylist()
    tokens = tokenize(tokenizer, texts, max_tokens)
    labels = {task.name: gold(examples[task.name].to_pylist(), task) for task in config.tasks}
    questions = tokenize(tokenizer, [text or "" for text in examples["pair"].to_pylist()], config.window // 2)
    split = np.array(examples["split"].to_pylist())
    readable = np.array([len(t.ids) > 0 for t in tokens])
    kind = np.array(examples["kind"].to_pylist())
    return Examples(
        record_id=examples["record_id"].to_pylist(),
        ids=[t.ids for t in tokens],
        labels=labels,
        train=(split == "train") & readable,
        valid=(split == "valid") & readable,
        pairs=[question.ids for question in questions] if config.paired else None,
        kind=kind,
        sample=np.isin(kind, KINDS),
        marked=[
            None if marks is None else flags(found, marks, len(text))
            for found, marks, text in zip(tokens, examples["marks"].to_pylist(), texts, strict=True)
        ],
    )


def flags(tokens: "TokenizedText", marks: Sequence[Mapping[str, Any]], length: int) -> np.ndarray:
    """Which tokens lie in a word that a highlight touches, [tokens]; one outside the text's `length` says nothing."""
    words = np.zeros(len(tokens.word_start), dtype=bool)
    for mark in marks:
        if 0 <= mark["start"] < mark["end"] <= length:
            words |= (tokens.word_start < mark["end"]) & (tokens.word_end > mark["start"])
    return words[tokens.word_of_token]
