"""How the tagger is trained: perhaps an encoder from nothing, then without guidance, then guided in rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import (
    CHARACTERS,
    check_window,
    encoder_config,
    encoder_digest,
    encoder_folder,
    load_tokenizer,
    special_ids,
)
from engine.errors import ConfigError
from engine.keys import check_keys, section
from engine.models.base import ModelSpec, Phase
from engine.models.characters import character_tokenizer, small_encoder, stored_config
from engine.models.entities.corpus import Corpus, load_corpus
from engine.models.entities.recipe import EntityRecipe, EntityTexts, with_full_paths
from engine.models.entities.settings import EntityData
from engine.models.examples import Preparation
from engine.models.guided_ner.card import model_card
from engine.models.guided_ner.checkpoint import SYSTEM, read_checkpoint, write_checkpoint
from engine.models.guided_ner.config import BILSTM_CRF, GLOBAL, Config, Decoding, LearnConfig, ModelConfig
from engine.models.guided_ner.vocabulary import vocabulary
from engine.sources.labelled.splits import TRAIN

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from engine.models.guided_ner.network import Network


@dataclass(frozen=True)
class Settings:
    data: EntityData = section(EntityData)
    model: ModelConfig = section(ModelConfig)
    learn: LearnConfig = section(LearnConfig)


class Texts(EntityTexts):
    """See `engine.models.entities.recipe`."""

    @cached_property
    def model(self) -> ModelConfig:
        return ModelConfig(**self.settings["model"])

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        if self.model.base:
            return load_tokenizer(read_checkpoint(self.model.base).folder)
        if self.model.encoder == CHARACTERS:
            return character_tokenizer(each.text for each in self.corpus.documents if each.split == TRAIN)
        return load_tokenizer(encoder_folder(self.model.encoder))

    @cached_property
    def config(self) -> Config:
        model = self.model
        if model.base:
            return read_checkpoint(model.base).config
        if model.encoder == CHARACTERS:
            encoder = small_encoder(self.tokenizer, model.window + 2)
        else:
            encoder = stored_config(encoder_config(model.encoder))
        lstm = model.lstm if model.head == BILSTM_CRF else 0
        fixed = model.window, model.overlap, model.language, special_ids(self.tokenizer)
        return Config(self.corpus.types, model.head, encoder, *fixed, lstm)

    @cached_property
    def decodings(self) -> list[Decoding]:
        return [Decoding(longest=self.encoded[0].longest(len(self.corpus.types)))]

    @cached_property
    def network(self) -> "Network":
        from engine.models.guided_ner.network import Network

        return Network(self.config)

    def preparation(self) -> Preparation:
        plan, classes = super().preparation(), vocabulary(self.tokenizer, self.config.language)
        facts = {"config": asdict(self.config), "spared": classes.spared.tolist(), "others": classes.others}
        return replace(plan, facts={**plan.facts, **facts})


class TagRecipe(EntityRecipe):
    """See `engine.models.base.Recipe`."""

    def corpus(self, settings: Mapping[str, Any]) -> Texts:
        settings = with_full_paths(settings)
        data, model, learn = (kind(**settings[name]) for name, kind in _SECTIONS.items())
        for name, values in (("data", data), ("model", model), ("learn", learn)):
            check_keys(values, f"{name}.")
        documents = load_corpus(data)
        if model.base:
            # Another model that was put in the same place is not the one that a training began with.
            settings = {**settings, "base_digest": read_checkpoint(model.base).digest}
        elif model.encoder != CHARACTERS:
            encoder_digest(model.encoder)
            check_window(model.encoder, model.window)
        texts = Texts(settings, documents)
        _check(texts, documents, learn)
        return texts

    def phases(self, settings: Mapping[str, Any]) -> Sequence[Phase]:
        from engine.models.guided_ner.targets import tables

        model, learn = ModelConfig(**settings["model"]), LearnConfig(**settings["learn"])
        learner, phases = f"{SYSTEM}.learner:learner", []
        if model.encoder == CHARACTERS and not model.base:
            loop = {"epochs": learn.words_epochs, "rate": learn.words_rate, "validated": False, "patience": 0}
            phases.append(Phase("words", f"{SYSTEM}.learner:words_learner", loop=loop))
        if not (model.base and learn.rounds):
            phases.append(Phase("tags", learner, {"round": 0}))
        for number in range(1, learn.rounds + 1):
            loop = {"epochs": learn.guided_epochs}
            phases.append(Phase(f"guided_{number}", learner, {"round": number}, loop, tables()))
        if not learn.rounds:
            loop = {"epochs": 1.0, "validated": False, "patience": 0}
            phases.append(Phase("table", f"{SYSTEM}.learner:TableLearner", {"round": 0}, loop, tables()[:1]))
        return phases

    def write(self, folder: Path, corpus: Texts, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
        weights = {name: tensors.get(name, value) for name, value in corpus.network.state_dict().items()}
        write_checkpoint(folder, corpus.config, weights, corpus.tokenizer, corpus.decoding)
        return ModelSpec(SYSTEM, str(folder), {"precision": corpus.settings.get("precision", "auto"), "evidence": "none"})

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        return model_card(figures, read_checkpoint(spec.path).config, command)


_SECTIONS = {"data": EntityData, "model": ModelConfig, "learn": LearnConfig}
RECIPE = TagRecipe(Settings, "")


def _check(texts: Texts, corpus: Corpus, learn: LearnConfig) -> None:
    """ConfigError if the settings of a training and its corpus do not fit together."""
    model = texts.model
    if any(set(corpus.types) - marked for marked in corpus.marked.values()):
        raise ConfigError(
            "data.path: one tag a word needs texts in which all types are marked, and some of its datasets lack types; "
            "train them apart, or name the types that all have in data.types"
        )
    if model.base:
        base = read_checkpoint(model.base).config
        if base.types != corpus.types or base.head != model.head:
            has = f"model.head={base.head} and the types {', '.join(base.types)}"
            raise ConfigError(f"model.base: the base model has {has}; set the same, or leave model.base out")
    if not learn.targets or not set(learn.targets) <= {"gradient_x_input", "attnlrp", GLOBAL}:
        raise ConfigError("learn.targets: name some of gradient_x_input, attnlrp and global")
