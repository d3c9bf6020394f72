"""How the site classifier is trained: a whole model, or a further head on the frozen encoder of an existing model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from engine.encoders import encoder_digest
from engine.errors import ConfigError
from engine.keys import key, section
from engine.models import code_figures
from engine.models.base import ModelSpec, Phase, Say
from engine.models.code_corpus import LabelledTexts
from engine.models.code_figures import cautions
from engine.models.examples import Preparation
from engine.models.site_classifier.columns import TASKS, DataConfig
from engine.models.site_classifier.config import HEADS, ClassifierConfig, LearnConfig, ModelConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.storage import full_path

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.site_classifier.coder import SiteCoder
    from engine.models.site_classifier.examples import ReportEncoding

__all__ = ["card", "cautions", "corpus", "measure", "part", "phases", "report", "settle", "watched", "write"]

SYSTEM = "engine.models.site_classifier"
REJECTED = "rejected_rationales.parquet"


@dataclass(frozen=True)
class Settings:
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    learn: LearnConfig = section(LearnConfig)
    baseline: bool = key(
        True, "Fit TF-IDF with logistic regression on the same reports, for the model card; this takes some minutes."
    )
    evidence_sample: int = key(
        100, "Number of validation reports, and of test reports, on which evidence methods are compared.", low=1
    )


@dataclass
class Reports(LabelledTexts):
    """See `engine.models.base.Corpus`."""

    survey_class = ReportSurvey

    @cached_property
    def base(self) -> "SiteCoder | None":
        """The model for which a further head is trained."""
        from engine.models.site_classifier.build import load_base

        return load_base(self.settings, {}) if self.settings["model"].get("base") else None

    @cached_property
    def config(self) -> ClassifierConfig:
        from engine.models.site_classifier.build import classifier_config, with_head

        model = self.settings["model"]
        return with_head(self.base.config, model) if self.base else classifier_config(model, self.survey.labels, self.data)

    @property
    def encoding(self) -> "ReportEncoding":
        from engine.models.site_classifier.examples import ReportEncoding

        max_tokens = self.settings["learn"].get("max_tokens", LearnConfig.max_tokens)
        return ReportEncoding(self.config, self.config.encoder, max_tokens)

    def preparation(self) -> Preparation:
        samples, step = self.survey.samples, 512
        return replace(
            super().preparation(),
            facts={"labels": self.survey.labels},
            further=map(self.encoding, (samples.slice(at, step) for at in range(0, len(samples), step))),
            # States are stored by the number of their text, so a head's examples stay in their order.
            held=0 if self.base else self.data.held,
        )


def watched(settings: Mapping[str, Any]) -> Sequence[str]:
    tasks = dict(settings["data"].get("labels") or TASKS)
    return ["macro_f1", *(f"{name}_{task}" for task in tasks for name in ("accuracy", "macro_f1"))]


def corpus(settings: Mapping[str, Any]) -> Reports:
    settings = _with_full_paths(settings)
    data = DataConfig(**settings["data"])
    _check(settings, data)
    reports = Reports.of(settings, data)
    if reports.base:
        reports.settings = {**settings, "model": {**settings["model"], "base_digest": reports.base.digest}}
    # Refuses an impossible architecture before anything is written.
    _ = reports.config
    return reports


def phases(settings: Mapping[str, Any]) -> Sequence[Phase]:
    learner = "head_learner" if settings["model"].get("base") else "learner"
    return [Phase(learner, f"{SYSTEM}.build:{learner}")]


def part(settings: Mapping[str, Any]) -> str:
    return f"heads/{settings['model']['head']}" if settings["model"].get("base") else ""


def write(folder: Path, corpus: Reports, tensors: Mapping[str, "Tensor"]) -> ModelSpec:
    from engine.models.checkpoint import copy
    from engine.models.code_task import TaskCalibration
    from engine.models.site_classifier.checkpoint import write_checkpoint, write_head
    from engine.models.site_classifier.learner import MARKER

    config = corpus.config
    plain, note = {task.name: TaskCalibration() for task in config.tasks}, "not calibrated yet\n"
    weights = {name: value for name, value in tensors.items() if not name.startswith(f"{MARKER}.")}
    if corpus.base is None:
        write_checkpoint(folder, config, weights, plain, config.evidence_methods[0], frozenset(corpus.survey.pairs), note)
    else:
        copy(corpus.base.checkpoint.folder, folder)
        write_head(folder, config, weights, plain, config.evidence_methods[0], note)
    if corpus.data.highlighted:
        pq.write_table(corpus.survey.rejected, folder / part(corpus.settings) / REJECTED)
    if corpus.base is None:
        return ModelSpec(SYSTEM, str(folder))
    # A head is settled and measured in the precision in which it learned.
    return ModelSpec(SYSTEM, str(folder), {"head": config.head, "precision": corpus.settings.get("precision", "auto")})


def settle(spec: ModelSpec, corpus: Reports, say: Say) -> Mapping[str, Any]:
    from engine.models.site_classifier.finish import settle

    return settle(spec, corpus.config.tasks, corpus.part("valid"), say, corpus.settings.get("evidence_sample", 100))


def measure(spec: ModelSpec, corpus: Reports, settled: Mapping[str, Any], say: Say) -> dict[str, Any]:
    from engine.models.site_classifier.finish import measure

    figures = measure(
        spec,
        settled,
        corpus.part("test"),
        corpus.survey.examples,
        say,
        with_baseline=corpus.settings.get("baseline", False),
        sample=corpus.settings.get("evidence_sample", 100),
    )
    head = {"head": corpus.config.head} if corpus.base else {}
    unused = {f"highlights not used, {reason}": count for reason, count in corpus.survey.unused.items()}
    return {**head, **figures, "examples": {**corpus.survey.counts, **unused}}


def card(spec: ModelSpec, figures: Mapping[str, Any], command: str) -> str:
    """See `engine.models.base.Recipe`. A further head is also named in the card of the whole checkpoint."""
    from engine.models.checkpoint import CARD, revise
    from engine.models.site_classifier.card import add_head, model_card
    from engine.models.site_classifier.checkpoint import read_checkpoint

    folder, head = Path(spec.path), spec.options.get("head")
    if head:
        revise(folder, {}, add_head((folder / CARD).read_text(), head, figures, command))
    return model_card(figures, read_checkpoint(spec.path, head).config, command)


def report(figures: Mapping[str, Any]) -> list[str]:
    lines = code_figures.report(figures)
    return [*lines, f"to use this head: model.head={figures['head']}"] if "head" in figures else lines


def _check(settings: Mapping[str, Any], data: DataConfig) -> None:
    """Raises ConfigError where settings do not go together, before anything is read."""
    model = settings["model"]
    unknown = sorted(set(settings["learn"].get("weights") or {}) - set(data.labels))
    if unknown:
        raise ConfigError(f"learn.weights: there is no task '{unknown[0]}'; there are {', '.join(data.labels)}")
    if not model.get("base"):
        if model.get("freeze_encoder"):
            raise ConfigError("model.freeze_encoder: there is no model.base whose encoder could stay as it is; name one")
        encoder_digest(model.get("encoder", ClassifierConfig.encoder))
        return
    if not model.get("freeze_encoder"):
        raise ConfigError("model.freeze_encoder: a training that goes on from a model keeps its encoder; set it to true")
    from engine.models.site_classifier.checkpoint import read_checkpoint

    base = read_checkpoint(model["base"])
    if base.config.head == model["head"]:
        others = ", ".join(head for head in HEADS if head != base.config.head)
        raise ConfigError(f"model.head: {base.config.head} is the model's own head; take another, of {others}")
    tasks = {task.name: task.multi_label for task in base.config.tasks}
    if {name: name in data.multi_label for name in data.labels} != tasks:
        names = ", ".join(f"{name} (of several codes)" if many else name for name, many in tasks.items())
        raise ConfigError(f"data.labels: the model has the tasks {names}; name a column for each of them and no other")
    if base.config.paired and data.pair is None:
        raise ConfigError("data.pair: this model reads pairs of texts; name the column of the second one")


def _with_full_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with full paths, since a worker may run in another folder than the command."""
    data, model = dict(settings["data"]), dict(settings["model"])
    for name in ("path", "rationale_table"):
        if data.get(name):
            data[name] = full_path(os.path.expanduser(data[name]))
    if model.get("base") and model["base"] != "shipped":
        model["base"] = full_path(os.path.expanduser(model["base"]))
    kind, colon, folder = model.get("encoder", "").partition(":")
    if kind == "path" and colon:
        model["encoder"] = f"path:{os.path.abspath(os.path.expanduser(folder))}"
    return {**settings, "data": data, "model": model}
