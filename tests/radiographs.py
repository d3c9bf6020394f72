"""Made radiographs, the bank of their reports, and a tiny model of CLEAR trained on both."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from engine.encoders import encoder_folder, load_encoder
from engine.models.base import recipe
from engine.models.checkpoint import TOKENIZER, shipped
from engine.models.clear.concepts import bank_table, observation_table
from engine.models.clear.config import LearnConfig, ModelConfig
from engine.models.findings.studies import StudyData
from engine.pipeline import tables
from engine.sources.labelled import Labelled
from engine.sources.synthetic import CorpusConfig, write
from engine.sources.synthetic.radiographs import Radiographs
from engine.training.config import LoopConfig
from engine.training.run import finish, train_phases

SYSTEM = "engine.models.clear"
PIXELS = 64


@dataclass(frozen=True)
class Made:
    """Where the radiographs with their manifest, the bank and the model are, and the figures of its training."""

    corpus: Path
    bank: str
    model: Path
    figures: dict[str, Any]
    system: str = SYSTEM

    def images(self, count: int) -> list[bytes]:
        """The files of the first radiographs."""
        return pq.read_table(self.corpus, columns=["image"])["image"].slice(0, count).to_pylist()

    @property
    def serving(self) -> str:
        """The shipped model if there is one, otherwise the tiny one."""
        return str(shipped(SYSTEM) if shipped(SYSTEM).is_dir() else self.model)


def make(folder: Path) -> Made:
    """Makes all of it; the texts' encoder tells words apart, but knows no language."""
    words = f"path:{_encoder(folder / 'words')}"
    write(CorpusConfig(str(folder / "corpus"), 120, Radiographs(seed=3, pixels=PIXELS, prevalence=2.0)))
    labelled = Labelled(str(folder / "corpus"), id="record_id", text="report")
    counted, settings = observation_table(labelled, "engine.text.chest.observations:observations")
    observations = tables.make(counted, settings, str(folder), _say)
    bank = tables.make(*bank_table(observations, words, "", 2), str(folder), _say)
    data = StudyData(path=str(folder / "corpus"), id="record_id", split=None, cut_share=0.25)
    model = ModelConfig(bank=bank, image="tiny:lite0", text=words, width=16)
    sections = {"data": asdict(data), "model": asdict(model), "learn": asdict(LearnConfig())}
    corpus = recipe(SYSTEM).corpus({**sections, "precision": "fp32", "seed": 1})
    loop = LoopConfig(epochs=2, batch=32, rate=1e-3)
    state = train_phases(recipe(SYSTEM), corpus, loop, folder / "work", _say)
    figures = finish(recipe(SYSTEM), corpus, state, folder / "model", device="cpu", command="a command", say=_say)
    return Made(folder / "corpus", bank, folder / "model", figures)


def _encoder(folder: Path) -> Path:
    """A tiny encoder whose words weigh more than their places, so that its embeddings differ."""
    encoder = load_encoder("tiny:bert", torch.float32, "eager")
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight.mul_(50)
    encoder.save_pretrained(folder)
    shutil.copy(encoder_folder("tiny:bert") / TOKENIZER, folder)
    return folder


def _say(line: str) -> None:
    pass
