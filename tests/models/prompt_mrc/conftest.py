"""An invented language of entities for a tiny encoder, and extractors trained on it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.entities.corpus import Corpus
from engine.models.entities.examples import Examples, encode_corpus
from engine.models.prompt_mrc.checkpoint import trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import LearnConfig, MrcConfig
from engine.models.prompt_mrc.learner import MrcLearner, prepare_training
from engine.models.prompt_mrc.network import MrcNetwork, new_network
from engine.models.prompt_mrc.templates import complete_config
from engine.sources.labelled import Document, Span
from engine.sources.labelled.documents import Broken
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train

QUESTIONS = {"A": "which fruit is named", "B": "find every fruit that grows on a hill"}
COLOURS = ("red", "green", "yellow")
FRUIT = ("apple", "pear", "plum", "cherry")
FILLER = ("we", "saw", "the", "old", "man", "sell", "his", "bread", "near", "a", "river", "today")


def sentence(rng: np.random.Generator) -> tuple[str, list[dict]]:
    """Words in which an A (a coloured fruit) may stand alone or within a B (`hill`, an A, `tree`)."""
    text, spans = "", []

    def put(word: str) -> tuple[int, int]:
        nonlocal text
        text += (" " if text else "") + word
        return len(text) - len(word), len(text)

    for _ in range(int(rng.integers(2, 4))):
        for _ in range(int(rng.integers(1, 4))):
            put(str(rng.choice(FILLER)))
        nested = rng.random() < 0.5
        begin = put("hill")[0] if nested else None
        spans.append({"start": put(str(rng.choice(COLOURS)))[0], "end": put(str(rng.choice(FRUIT)))[1], "type": "A"})
        if nested:
            spans.append({"start": begin, "end": put("tree")[1], "type": "B"})
    return text, spans


@dataclass(frozen=True)
class World:
    texts: list[str]
    spans: list[list[dict]]

    @classmethod
    def make(cls, count: int, seed: int = 0) -> "World":
        rng = np.random.default_rng(seed)
        sentences = [sentence(rng) for _ in range(count)]
        return cls([text for text, _ in sentences], [spans for _, spans in sentences])

    def examples(self, config: MrcConfig) -> Examples:
        """All sentences, each both for training and for validation."""
        sentences = enumerate(zip(self.texts, self.spans, strict=True))
        documents = [
            Document(f"r{at}", text, tuple(Span(**each) for each in spans), split="train") for at, (text, spans) in sentences
        ]
        corpus = Corpus(documents, config.types, {None: frozenset(config.types)}, Broken.of(documents))
        examples, _ = encode_corpus(corpus, load_tokenizer(encoder_folder(config.encoder)))
        return replace(examples, valid=examples.train.copy())


def tiny_config(**changes) -> MrcConfig:
    values = {"types": ("A", "B"), "encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 0, "match_width": 32}
    return complete_config(MrcConfig(**{**values, "window": 24, "overlap": 12, "prompt_room": 32, **changes}), QUESTIONS)


def tiny_learner(config: MrcConfig | None = None, world: World | None = None, **learn) -> MrcLearner:
    config = config or tiny_config()
    network = prepare_training(new_network(config, torch.float32, "eager"))
    examples = (world or World.make(200)).examples(config)
    settings = LearnConfig(**{"masking": 0.0, "soft_rate": 3.0, **learn})
    learner = MrcLearner(network, examples, settings, torch.device("cpu"), config.decoding_type(nested=not config.is_tagger))
    learner.weights = (1.0, 1.0, 1.0)
    return learner


def scattered(network: MrcNetwork) -> MrcNetwork:
    """The network, untrained, with weights large enough that its answers depend on its input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, value in network.named_parameters():
            if value.ndim > 1 and "embeddings" not in name:
                torch.nn.init.normal_(value, std=0.3 if "soft" in name else 0.15)
            elif name == "tagger.bias":
                value.data.zero_()
    return network


def taught(learner: MrcLearner, folder: Path, epochs: float = 7, rate: float = 6e-3) -> list[dict]:
    """Trains and returns the curve, one row per epoch."""
    loop = LoopConfig(epochs=epochs, batch=8, rate=rate, report_every=1000, patience=50, watch="f1", checkpoint_every=10**6)
    return train(learner, loop, Worker(), folder)


def write(learner: MrcLearner, folder: Path, **decoding) -> Path:
    """A learner's model as a checkpoint."""
    config = learner.network.config
    write_checkpoint(folder, config, trained_tensors(learner.network), config.decoding_type(**decoding), "a card\n")
    return folder


@pytest.fixture(scope="session")
def model(learned: MrcLearner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of `learned`."""
    return write(learned, tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> MrcLearner:
    """A hybrid extractor trained on 200 sentences."""
    learner = tiny_learner()
    taught(learner, tmp_path_factory.mktemp("learned"))
    return learner
