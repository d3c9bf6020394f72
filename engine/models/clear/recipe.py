"""How the system is trained: image and text are brought into one space, the concept bank is placed in it, a head is fitted."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.encoders import encoder_config, encoder_digest
from engine.errors import ConfigError
from engine.images.preprocess import preprocessing
from engine.keys import check_keys, section
from engine.models.base import ModelSpec, Phase, Say, load
from engine.models.clear import fitting
from engine.models.clear.bank import collapse
from engine.models.clear.card import model_card
from engine.models.clear.checkpoint import SYSTEM, read_checkpoint, settle_checkpoint, write_checkpoint
from engine.models.clear.concepts import ENOUGH, Bank, read_bank
from engine.models.clear.config import Config, LearnConfig, ModelConfig
from engine.models.clear.examples import EncodePairs
from engine.models.clear.space import Space
from engine.models.embedding import embed
from engine.models.examples import Preparation
from engine.models.findings.figures import measured, measured_lines, rarities
from engine.models.findings.fitting import Promise, fit_findings
from engine.models.findings.studies import Labels, StudyData, features_of
from engine.sources.labelled import Reader
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.storage import full_path, s3_config
from engine.text.chest import FINDINGS
from engine.vision.encoders import image_encoder_config, image_encoder_digest, load_image_encoder, preprocessing_of

if TYPE_CHECKING:
    from torch import Tensor

# Concepts that are embedded at a time.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Settings:
    data: StudyData = section(StudyData)
    model: ModelConfig = section(ModelConfig)
    learn: LearnConfig = section(LearnConfig)


class Studies:
    """See `engine.models.base.Corpus`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.data = StudyData(**settings["data"])
        self.labels = Labels.read(self.data)
        self.bank = read_bank(settings["model"]["bank"])

    @cached_property
    def given(self) -> list[list[Any]]:
        return self._files()

    def changed(self) -> bool:
        return self._files() != self.given

    def lines(self) -> list[str]:
        auc = self.bank.facts["negation_auc"]
        low = [] if auc >= ENOUGH else [f"the bank's embedder tells findings from their absence poorly (AUC {auc:.2f})"]
        return [*self.labels.lines(), f"{len(self.bank.texts):,} concepts", *low]

    def preparation(self) -> Preparation:
        encode = EncodePairs(self.data, self.settings["model"], self.settings["learn"], self.settings["precision"], s3_config())
        pieces = list(Reader(self.data.labelled()).pieces())
        facts = {
            "image_features": self.image_features,
            "text_features": encoder_config(self.settings["model"]["text"]).hidden_size,
        }
        return Preparation(pieces, encode, encode.schema, self.given, facts, held=self.data.held)

    @property
    def image_features(self) -> int:
        import torch

        return load_image_encoder(self.settings["model"]["image"], torch.float32).width

    @cached_property
    def config(self) -> Config:
        model, learn = self.settings["model"], self.settings["learn"]
        image, text = image_encoder_digest(model["image"]), encoder_digest(model["text"])
        trained = tuple(name for name in ("image", "text") if learn[name])
        own = (model["image"], image, model["preprocessing"], model["text"], text, model["width"], learn["tokens"], model["head"])
        return Config(
            self.labels.findings or FINDINGS,
            *own,
            {"path": model["bank"], "sha256": self.bank.sha256, **self.bank.facts},
            trained,
        )

    def _files(self) -> list[list[Any]]:
        return [[file.path, file.size, file.version] for file in Reader(self.data.labelled(images=False)).files]


def concept_directions(settings: Mapping[str, Any], bank: Bank, tensors: "Mapping[str, Tensor]") -> NDArray:
    """The concepts of a bank [C, d] in the space of a trained dual encoder, in the precision of a checkpoint."""
    import torch

    from engine.models.clear.network import Projection, below
    from engine.models.clear.towers import TextTower

    texts = Projection(tensors["dual.text.linear.weight"].shape[1], settings["model"]["width"])
    texts.load_state_dict(below(tensors, "dual.text."))
    parts = []
    with torch.inference_mode():
        if settings["learn"]["text"]:
            tower = TextTower.of(settings)
            tower.load_state_dict(below(tensors, "text."))
            parts = [tower.of_texts(bank.texts[at : at + _AT_ONCE], settings["learn"]["tokens"]) for at in _starts(bank)]
        elif bank.facts["embedder"] == settings["model"]["text"] and not bank.facts["instruction"]:
            # The bank already has what the frozen encoder says of its texts.
            parts = [torch.from_numpy(bank.embeddings[at : at + _AT_ONCE].astype(np.float32)) for at in _starts(bank)]
        else:
            parts = [torch.from_numpy(embed(bank.texts[at : at + _AT_ONCE], settings["model"]["text"])) for at in _starts(bank)]
        return torch.cat([texts(part) for part in parts]).numpy().astype(np.float16)


def _starts(bank: Bank) -> range:
    return range(0, len(bank.texts), _AT_ONCE)


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with full paths, and the preprocessing that an encoder wants."""
    data, model = dict(settings["data"]), dict(settings["model"])
    for part, name in ((data, "path"), (data, "root"), (model, "bank")):
        if part[name]:
            part[name] = full_path(os.path.expanduser(part[name]))
    wanted = preprocessing_of(model["image"], image_encoder_config(model["image"]))
    model["preprocessing"] = preprocessing(model["preprocessing"] or wanted).name
    return {**settings, "data": data, "model": model}


class ClearRecipe:
    """See `engine.models.base.Recipe`."""

    Settings = Settings

    def watched(self, settings: Mapping[str, Any]) -> Sequence[str]:
        return ["rank", "recall_5"]

    def corpus(self, settings: Mapping[str, Any]) -> Studies:
        settings = _completed(settings)
        for name, kind in {"data": StudyData, "model": ModelConfig, "learn": LearnConfig}.items():
            check_keys(kind(**settings[name]), f"{name}.")
        corpus = Studies(settings)
        if not corpus.labels.report[corpus.labels.split == TRAIN].any():
            raise ConfigError("data.report: no study of train has a report, and images and texts are compared by them")
        return corpus

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        return [Phase("pairs", f"{SYSTEM}.learner:learner")]

    def part(self, settings: Mapping[str, Any]) -> str:
        return ""

    def write(self, folder: Path, corpus: Studies, tensors: "Mapping[str, Tensor]") -> ModelSpec:
        t, bank, config = concept_directions(corpus.settings, corpus.bank, tensors), corpus.bank, corpus.config
        width, count = bank.embeddings.shape[1], len(config.findings)
        nothing = np.zeros(t.shape[1]), np.zeros((width, count)), np.zeros(count), np.zeros((len(t), count))
        rows = fitting.concept_table(bank, np.arange(len(t)))
        write_checkpoint(folder, config, tensors, rows, Space(t, collapse(t, bank.embeddings), *nothing))
        return ModelSpec(SYSTEM, str(folder), {"precision": corpus.settings["precision"], "evidence": "none", "concepts": 0})

    def settle(self, spec: ModelSpec, corpus: Studies, say: Say) -> Mapping[str, Any]:
        """Fits the head on train and the thresholds on valid, from the product's own images."""
        names, checkpoint = corpus.config.findings, read_checkpoint(spec.path)
        system, parts = load(spec), {}
        for split in (TRAIN, VALID):
            ids, features = features_of(system, corpus.data, split, say)
            parts[split] = fitting.Labelled(system.embedded(features)[0], corpus.labels.of(ids))
        t = checkpoint.space().t
        head = fitting.fit_head(corpus.config.head, t, corpus.bank, list(names), parts[TRAIN], parts[VALID])
        fitted = fit_findings(names, head.logits(parts[VALID].v), parts[VALID].states, Promise())
        space, fitted = fitting.calibrated(head.space, names, fitted)
        settle_checkpoint(checkpoint.folder, fitted, fitting.concept_table(corpus.bank, head.concepts), space)
        return {"by_prompts": head.by_prompts, "rare": rarities(fitted, Promise()), "concepts": len(head.concepts)}

    def measure(self, spec: ModelSpec, corpus: Studies, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
        system = load(spec)
        ids, features = features_of(system, corpus.data, TEST, say)
        logits = system.logits(features)
        figures = measured(system.names, system.calibration, logits, corpus.labels.of(ids), corpus.labels.group_of(ids))
        counts = {"concepts": len(corpus.bank.texts), "negation_auc": corpus.bank.facts["negation_auc"]}
        return {"studies": corpus.labels.counts(), "bank": counts, **settled, **figures}

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        return model_card(figures, read_checkpoint(spec.path).config, command)

    def report(self, figures: Mapping[str, Any]) -> list[str]:
        return measured_lines(figures)

    def cautions(self, figures: Mapping[str, Any]) -> list[str]:
        return [f"{name}: no promise: {why}" for name, why in figures["rare"].items()]


RECIPE = ClearRecipe()
