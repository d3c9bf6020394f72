"""A made-up language of entities for a tiny encoder, and extractors that have learned it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.checkpoint import trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import Decoding, LearnConfig, MrcConfig
from engine.models.prompt_mrc.learner import Examples, MrcLearner, prepare_training
from engine.models.prompt_mrc.network import MrcNetwork
from engine.text.tokens import tokenize
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
        made = [sentence(rng) for _ in range(count)]
        return cls([text for text, _ in made], [spans for _, spans in made])

    def examples(self, config: MrcConfig, valid: int = 0) -> Examples:
        """All for training, and the first `valid` for validation instead; with 0 all are for both."""
        count = len(self.texts)
        tokens = tokenize(load_tokenizer(encoder_folder(config.encoder)), self.texts, 512)
        split = ["valid"] * valid + ["train"] * (count - valid)
        found, _ = Examples.of([f"r{i}" for i in range(count)], self.texts, tokens, self.spans, split, config.types)
        return found if valid else Examples(found.record_id, found.tokens, found.spans, found.train, found.train.copy())


def tiny_config(**changes) -> MrcConfig:
    values = {"types": ("A", "B"), "encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 0, "match_width": 32}
    return completed(MrcConfig(**{**values, "window": 24, "overlap": 12, "prompt_room": 32, **changes}), QUESTIONS)


def tiny_learner(config: MrcConfig | None = None, world: World | None = None, **learn) -> MrcLearner:
    config = config or tiny_config()
    network = prepare_training(new_network(config, torch.float32, "eager"))
    examples = (world or World.make(200)).examples(config)
    return MrcLearner(
        network, examples, LearnConfig(**{"masking": 0.0, "soft_rate": 3.0, "weights": (1, 1, 1), **learn}), torch.device("cpu")
    )


def scattered(network: MrcNetwork) -> MrcNetwork:
    """The network with weights at which its answers depend on what it reads, though it has learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, value in network.named_parameters():
            if value.ndim > 1 and "embeddings" not in name:
                torch.nn.init.normal_(value, std=0.3 if "soft" in name else 0.15)
            elif name == "tagger.bias":
                value.data.zero_()
    return network


def taught(learner: MrcLearner, folder: Path, epochs: float = 7, rate: float = 6e-3) -> list[dict]:
    """Trains and returns the curve, a row an epoch."""
    loop = LoopConfig(epochs=epochs, batch=8, rate=rate, report_every=1000, patience=50, watch="f1", checkpoint_every=10**6)
    return train(learner, loop, Worker(), folder)


def write(learner: MrcLearner, folder: Path, **decoding) -> Path:
    """A checkpoint of what a learner has learned."""
    write_checkpoint(folder, learner.network.config, trained_tensors(learner.network), Decoding(**decoding), "a card\n")
    return folder


@pytest.fixture(scope="session")
def model(learned: MrcLearner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of `learned`."""
    return write(learned, tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> MrcLearner:
    """A hybrid extractor that has learned 200 sentences."""
    learner = tiny_learner()
    taught(learner, tmp_path_factory.mktemp("learned"))
    return learner
