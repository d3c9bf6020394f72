"""How Prompt-bioMRC is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import attention_for, encoder_digest, encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.keys import check_keys, section
from engine.models.base import ModelSpec
from engine.models.entities.recipe import EntityRecipe, EntityTexts, with_full_paths
from engine.models.prompt_mrc.card import model_card
from engine.models.prompt_mrc.checkpoint import check_base, read_checkpoint, trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import HARD, HYBRID, SOFT, TAGGER, DataConfig, Decoding, LearnConfig, ModelConfig, MrcConfig
from engine.models.prompt_mrc.templates import complete_config
from engine.models.prompt_mrc.texts import load_corpus

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from engine.models.prompt_mrc.network import MrcNetwork

SYSTEM = "engine.models.prompt_mrc"


@dataclass(frozen=True)
class Settings:
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    learn: LearnConfig = section(LearnConfig)


class Texts(EntityTexts):
    """See `engine.models.entities.recipe`."""

    @cached_property
    def model(self) -> ModelConfig:
        return ModelConfig(**self.settings["model"])

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        return load_tokenizer(encoder_folder(self.model.encoder))

    @cached_property
    def config(self) -> MrcConfig:
        return complete_config(self.model.architecture(self.corpus.types, self.settings["seed"]), self.model.questions)

    @cached_property
    def decodings(self) -> list[Decoding]:
        return self.model.decodings(self.corpus.nested(), self.encoded[0].longest(len(self.corpus.types)))

    @cached_property
    def begun(self) -> "tuple[MrcNetwork, dict[str, Tensor]]":
        """The network as training begins, and the tensors of a base model that its checkpoint keeps."""
        import torch

        from engine.models.prompt_mrc.learner import training_network

        return training_network(self.settings, self.corpus.types, torch.device("cpu"))

    @property
    def network(self) -> "MrcNetwork":
        return self.begun[0]


class MrcRecipe(EntityRecipe):
    """See `engine.models.base.Recipe`."""

    def corpus(self, settings: Mapping[str, Any]) -> Texts:
        from engine.models.prompt_mrc.ontology import build_templates, read_definitions

        settings = with_full_paths(settings)
        data, model = DataConfig(**settings["data"]), ModelConfig(**settings["model"])
        check_keys(data, "data.")
        check_keys(LearnConfig(**settings["learn"]), "learn.")
        _check_used(model)
        encoder_digest(model.encoder)
        documents, questions = load_corpus(data), dict(model.questions)
        if model.ontology is not None:
            definitions = read_definitions(model.ontology, documents.types, "model.ontology")
            templates = build_templates(documents, model.encoder, definitions, mentions=model.mentions)
            questions = {name: template.text for name, template in templates.items()} | questions
        # Where the questions come from makes no difference to the model.
        rest = {name: value for name, value in settings["model"].items() if name not in ("ontology", "mentions")}
        settings = {**settings, "model": {**rest, "questions": questions}}
        if model.base:
            # Another model that was put in the same place is not the one that a training began with.
            settings = {**settings, "base_digest": read_checkpoint(model.base).digest}
        texts = Texts(settings, documents)
        _check(texts)
        return texts

    def write(self, folder: Path, corpus: Texts, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
        import torch

        network, kept = corpus.begun
        with torch.no_grad():
            for name, value in network.named_parameters():
                if value.requires_grad:
                    value.copy_(tensors[name])
        network.eval()
        write_checkpoint(folder, network.config, {**kept, **trained_tensors(network)}, corpus.decoding, "not settled yet\n")
        options = {"precision": corpus.settings.get("precision", "auto"), "evidence": "none"}
        return ModelSpec(SYSTEM, str(folder), options)

    def card(self, spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
        return model_card(figures, read_checkpoint(spec.path).config, command)


RECIPE = MrcRecipe(Settings, f"{SYSTEM}.learner:learner")


def _check(texts: Texts) -> None:
    """ConfigError if the settings of a training and its corpus do not fit together."""
    import torch

    from engine.models.prompt_mrc.network import new_network

    config, model = texts.config, texts.model
    for name in model.questions:
        if not config.is_hard:
            raise ConfigError(f"model.questions: a model of the mode '{config.mode}' asks no questions; leave them out")
        if name not in config.types:
            raise ConfigError(f"model.questions: '{name}' is none of the types to learn, which are {', '.join(config.types)}")
    if model.base:
        check_base(read_checkpoint(model.base), config)
    elif config.freeze_heads:
        raise ConfigError("model.freeze_heads: there is no model.base whose heads could be kept; name one, or leave it out")
    if config.freeze_encoder and config.freeze_heads and not config.is_soft:
        raise ConfigError(
            f"model.freeze_encoder and model.freeze_heads leave a model of the mode '{config.mode}' nothing to learn; "
            "set one of them to false, or model.mode to soft or hybrid"
        )
    new_network(config, torch.float32, attention_for("cpu"))
    model.decodings(texts.corpus.nested())


def _check_used(model: ModelConfig) -> None:
    """ConfigError if a setting is not at its default, but has no effect in the mode of the model or beside another setting."""
    defaults = {field.name: field.default for field in fields(ModelConfig)}
    changed = {name for name, default in defaults.items() if getattr(model, name) != default}
    unused = set()
    if model.mode not in (HARD, HYBRID):
        unused |= {"style", "version", "ontology", "mentions"}
    if model.mode not in (SOFT, HYBRID):
        unused |= {"shared_soft", "type_soft"}
    if model.mode == TAGGER:
        unused |= {"prompt_room"} | ({"nested"} if model.nested else set())
    for name in defaults:
        if name in unused & changed:
            raise ConfigError(f"model.{name}: model.mode={model.mode} has no use for it; leave it out")
    if model.ontology is None and "mentions" in changed:
        raise ConfigError("model.mentions: only templates built from a table have mentions; give model.ontology, or leave it out")
    if model.ontology is not None and changed & {"style", "version"}:
        raise ConfigError("model.style and model.version: model.ontology replaces the built-in templates; leave these out")
