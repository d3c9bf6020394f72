"""Fits an encoder of its own: an encoder is adapted to texts of a domain by masked language modelling.

    masked_words.texts: [<file>, ...]    Parquet files below data.path: distinct texts in a column tokens (joined by blanks),
                                         sentences (joined) or text; rows of test, or of valid in a file without test, left out
    masked_words.most: 20000             texts, the first by their hash
    masked_words.<field>                 of `AdaptConfig`

The fitted folder is an encoder: `model.encoder: {after: <study>, at: "path:{folder}"}`.

Source of the further training on texts of the task's domain: Gururangan et al., Don't Stop Pretraining (ACL 2020).
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import torch
from safetensors.torch import save_file

from engine.encoders import attention_for, encoder_digest, encoder_folder, load_encoder, load_tokenizer, set_threads, special_ids
from engine.errors import ConfigError
from engine.models.masked_words import MaskedWords
from engine.sources.parquet import read_table
from engine.storage import whole_file
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.text.tokens import tokenize
from engine.text.windows import window_bounds
from engine.training.config import LoopConfig
from engine.training.here import train_here
from engine.training.loop import Worker

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

FIGURES = "adapted.json"
_NOTES = {
    "loss_after": "mean loss of a hidden token on held-back texts",
    "loss_of_new_head": "the same before training, with a head that has learned nothing: not what the encoder knew",
}


@dataclass(frozen=True)
class AdaptConfig:
    """How an encoder is adapted: to `most` texts of the files `texts`, in pieces of `window` tokens, one in `held` of them for
    validation."""

    texts: tuple[str, ...]
    most: int = 20000
    encoder: str = "pkg:minilm"
    window: int = 126
    epochs: float = 2.0
    batch: int = 32
    rate: float = 1e-4
    held: int = 50
    seed: int = 7


@dataclass(frozen=True)
class Adapted:
    """An encoder's folder, and the losses before and after."""

    folder: Path
    identity: str
    figures: Mapping[str, float]


def fit(task: Task) -> Adapted:
    """The adapted encoder: the one that is there, or one adapted now; a training that was stopped goes on.

    Raises:
        ConfigError: a setting is unknown, or the texts are too few.
    """
    set_threads(task.threads)
    config = options(AdaptConfig, task, "masked_words", seed=task.arm.seed)
    texts = domain_texts([f"{task.data.rstrip('/')}/{file}" for file in config.texts], config.most)
    learned = json.dumps([{**asdict(config), "texts": texts}, encoder_digest(config.encoder)])
    identity = hashlib.sha256(learned.encode()).hexdigest()[:32]
    home = task.models / "masked_words" / identity
    if not (home / "encoder" / FIGURES).is_file():
        learner, tokenizer = words_learner(config, texts, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        before = learner.validate()["loss"]
        loop = LoopConfig(config.epochs, config.batch, config.rate, seed=config.seed, report_every=50, checkpoint_every=200)
        work = home / "training"
        worker = Worker(report=lambda row, _: task.say(f"step {row['step']} of {row['steps']}, loss {row['loss_words']:.3f}"))
        train_here(learner, loop, worker, work)
        figures = {"loss_of_new_head": before, "loss_after": learner.validate()["loss"], "pieces": len(learner.pieces)}
        write_encoder(home / "encoder", learner.encoder, tokenizer, figures)
        shutil.rmtree(work)
    return Adapted(home / "encoder", identity, json.loads((home / "encoder" / FIGURES).read_text()))


def measure(model: Adapted, task: Task) -> Measured:
    """The losses; the first is that of a head that has learned nothing."""
    return Measured([Row(name, value, note=_NOTES.get(name, "")) for name, value in model.figures.items()])


def words_learner(config: AdaptConfig, texts: Sequence[str], device: torch.device) -> "tuple[MaskedWords, Tokenizer]":
    """The encoder as a learner of the texts, cut into pieces, and its tokenizer.

    Raises:
        ConfigError: the texts are too few.
    """
    tokenizer = load_tokenizer(encoder_folder(config.encoder))
    encoder = load_encoder(config.encoder, torch.float32, attention_for(str(device)))
    tokens = [each.ids for each in tokenize(tokenizer, list(texts), 10**6)]
    pieces = [ids[start:stop] for ids in tokens for start, stop in window_bounds(len(ids), config.window)]
    if len(pieces) < 2:
        raise ConfigError(f"masked_words.texts: too few texts to adapt an encoder ({len(pieces)} pieces)")
    names = list(map(str, range(len(pieces))))
    special = special_ids(tokenizer)
    learner = MaskedWords(encoder, special, pieces, names, seed=config.seed, device=device, held=config.held)
    return learner, tokenizer


def write_encoder(folder: Path, encoder: "PreTrainedModel", tokenizer: "Tokenizer", figures: Mapping[str, float]) -> None:
    """Writes the encoder as a folder, and the figures last."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in encoder.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with whole_file(folder / FIGURES) as part:
        part.write_text(json.dumps(figures) + "\n")


def domain_texts(files: Sequence[str], most: int) -> list[str]:
    """Distinct texts of some Parquet files, rows to be tested on left out, the first `most` by their hash.

    Raises:
        ConfigError: a file cannot be read, or has no texts in a column of a usual name.
    """
    texts: set[str] = set()
    for file in files:
        table = read_table(file, f"masked_words.texts: {file} cannot be read as Parquet")
        column = next((name for name in ("tokens", "sentences", "text") if name in table.column_names), None)
        if column is None:
            raise ConfigError(f"masked_words.texts: {file} has no column tokens, sentences or text")
        if "split" in table.column_names:
            tested = "test" if "test" in set(table["split"].to_pylist()) else "valid"
            table = table.filter(pc.not_equal(table["split"], tested))
        for value in table[column].to_pylist():
            text = value if isinstance(value, str) else " ".join(value or ())
            if text.strip():
                texts.add(text)
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())[:most]
