"""Invented Chinese reports, and tiny taggers of them: with random weights, and with tags that each character decides alone."""

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engine.encoders import special_ids
from engine.models.base import ModelSpec, load
from engine.models.characters import character_tokenizer
from engine.models.entities.spans import windows
from engine.models.guided_ner import recipe
from engine.models.guided_ner.checkpoint import SYSTEM, write_checkpoint
from engine.models.guided_ner.config import BILSTM_CRF, HEADS, Config, Decoding
from engine.models.guided_ner.network import Network
from engine.models.guided_ner.vocabulary import vocabulary
from engine.sources.labelled import Document, Span
from engine.training.examples import write_examples
from tests.models.conftest import records
from tests.sources.labelled.tables import to_table

SIGNS, DRUGS = ("瘙痒", "红斑", "丘疹", "渗出液"), ("软膏", "洗剂", "胶囊")
FILLER = "今日就诊左侧上肢面部皮损复查病史三年余自述既往体健"
TYPES = ("DRUG", "SIGN")


def sentence(rng):
    """A text in which a sign after 伴, and only there, is a SIGN, and a drug after 予 a DRUG."""
    text, spans = "患者", []

    def put(part, kind=None):
        nonlocal text
        text += part
        if kind:
            spans.append(Span(len(text) - len(part), len(text), kind))

    def filler(least, most):
        put("".join(rng.choice(list(FILLER), rng.integers(least, most + 1))))

    filler(1, 4)
    if rng.random() < 0.3:
        put(str(rng.choice(SIGNS)))
        filler(0, 2)
    if rng.random() < 0.8:
        put("伴")
        put(str(rng.choice(SIGNS)), "SIGN")
    put("，")
    filler(1, 4)
    if rng.random() < 0.5:
        put("予")
        put(str(rng.choice(DRUGS)), "DRUG")
    return f"{text}。", tuple(spans)


def documents(count, seed=0):
    """Three fifths for training; each text is marked in a dataset of its own name."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        text, spans = sentence(rng)
        yield Document(f"r{number}", text, spans, "made", ("train", "train", "train", "valid", "test")[number % 5])


def write_corpus(path, made):
    pq.write_table(to_table(made), path)
    return str(path)


TOKENIZER = character_tokenizer([document.text for document in documents(60)] * 2)


def small(tokenizer, positions):
    """An even smaller encoder of characters."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return {
        "model_type": "bert",
        "vocab_size": tokenizer.get_vocab_size(),
        **sizes,
        "max_position_embeddings": positions,
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def tiny_config(head="crf", tokenizer=TOKENIZER, **changes):
    values = {"window": 24, "overlap": 8, "language": "zh", "lstm": 6 if head == BILSTM_CRF else 0, **changes}
    return Config(TYPES, head, small(tokenizer, values["window"] + 2), special=special_ids(tokenizer), **values)


def scattered(config, seed=2):
    """A network whose answers depend on its input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(config)
        for name, value in network.named_parameters():
            if value.ndim > 1 and name != "glob":
                torch.nn.init.normal_(value, std=0.3)
    return network.eval()


def write(folder, network, tokenizer=TOKENIZER, **decoding):
    write_checkpoint(folder, network.config, network.state_dict(), tokenizer, Decoding(**decoding))
    return folder


def tagger(folder, **options):
    return load(ModelSpec(SYSTEM, str(folder), {"precision": "fp32", **options}, {"threads": 1}))


def answers(system, texts):
    return system.run(system.prepare(records(texts))).sort_by("row").to_pylist()


def window_of(text, tokenizer=TOKENIZER, size=24, overlap=8, parts=None, number=0):
    """The windows of a text whose characters are all tokens and words."""
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
    return windows(number, ids, np.arange(len(ids), dtype=np.int32), size, overlap, parts)


def settings(path, data=None, learn=None, **model):
    model = {"window": 24, "overlap": 8, **model}
    return {"data": {"path": path, **(data or {})}, "model": model, "learn": learn or {}, "precision": "fp32", "seed": 3}


def with_examples(values, folder):
    """The settings of a phase, with examples that are written to a folder."""
    corpus = recipe.RECIPE.corpus(values)
    write_examples(corpus.preparation(), str(folder / "examples"), folder / "sorting")
    whole = {**corpus.settings, "examples": str(folder / "examples"), "round": 0}
    return {**whole, "model": vars(recipe.ModelConfig(**values["model"])), "learn": values["learn"]}


@dataclass
class Looked:
    """Logits of tags by the token alone, in place of a network's outputs."""

    tags: dict

    def __call__(self, windows):
        logits = torch.zeros(len(windows), max(map(len, windows)) + 1, 1 + 2 * len(TYPES))
        logits[..., 0] = 2.0
        for row, window in enumerate(windows):
            for place, token in enumerate(window.ids.tolist()):
                if token in self.tags:
                    logits[row, place, self.tags[token]] = 8.0
        return logits


def looked(**tags):
    """The tag of each character, such as 红=3."""
    return Looked({TOKENIZER.token_to_id(character): tag for character, tag in tags.items()})


@pytest.fixture
def tiny_encoder(monkeypatch):
    """Trainings in this process make an even smaller encoder of characters."""
    monkeypatch.setattr(recipe, "small_encoder", small)


@pytest.fixture(scope="session")
def classes():
    return vocabulary(TOKENIZER, "zh")


@pytest.fixture(scope="session", params=HEADS)
def network(request):
    return scattered(tiny_config(request.param))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A checkpoint of each head with random weights that finds many spans."""
    made = tmp_path_factory.mktemp("taggers")
    return {head: write(made / head, scattered(tiny_config(head)), score=0.01, outside=1.0) for head in HEADS}
