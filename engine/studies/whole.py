"""Fits an arm as the product is trained: by its system's recipe, to a checkpoint with thresholds from valid; in this process.

The settings of an arm:

    <section>.<key>       as for jobs.train: data.share, model.mode, learn.masking; data.path is the arm's corpus
    <key>                 a key of the system outside all sections: evidence_sample
    train.<key>           of `engine.training.config.LoopConfig`
    precision             auto, fp32 or bf16
    untrained: true       no training: a checkpoint with the initial weights
    settle: false         thresholds keep their initial values
    use: {after: ...}     no training: another arm's model, measured on this arm's corpus
    answer.<option>       an option of the product while it is measured: questions, prompts of another checkpoint
    explain.<key>         of `engine.studies.explaining.Options`, for measures of explanations
    <measure>.<key>       a setting of a measure of the study

A model is stored in `<models>/<system>/<digest>`, the digest of everything that determines it: `checkpoint/`, and
`fitted.json`, which is written last.
"""

import hashlib
import json
import pkgutil
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from engine.encoders import encoder_digest, pick_precision, set_threads
from engine.errors import ConfigError
from engine.models import base
from engine.models.base import Corpus, ModelSpec, Recipe
from engine.storage import whole_file
from engine.studies.run import Task
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.loop import Worker
from engine.training.run import train_phases, write_settled

USE, UNTRAINED, SETTLE, ANSWER, TRAIN, PRECISION = "use", "untrained", "settle", "answer", "train", "precision"
EXPLAIN = "explain"
CHECKPOINT, FITTED = "checkpoint", "fitted.json"
_LOOP = {"report_every": 50, "checkpoint_every": 200}


@dataclass(frozen=True)
class Fitted:
    """A checkpoint, and the corpus on which it is measured.

    Args:
        folder: the checkpoint. spec: loads it as the product, with the arm's options.
        settled: the result of `Recipe.settle` on valid. curve: the learning curve. trained: the number of trained parameters.
    """

    folder: Path
    identity: str
    spec: ModelSpec
    corpus: Corpus
    settled: Mapping[str, Any]
    curve: Sequence[Mapping[str, Any]]
    trained: int


def fit(task: Task) -> Fitted:
    """The model of an arm. Loads it if it is stored, else trains it; a training that was stopped continues.

    Raises:
        ConfigError: a setting is unknown or impossible.
    """
    set_threads(task.threads)
    recipe, device = base.recipe(system_of(task)), "cuda" if torch.cuda.is_available() else "cpu"
    corpus = corpus_of(task)
    if USE in task.settings:
        return _load(task, Path(task.settings[USE]).parent, corpus)
    loop = _loop(task, recipe, corpus)
    identity = _identity(task, corpus, loop, device)
    home = task.models / task.study.system / identity
    if (home / FITTED).is_file():
        task.say("trained before")
        return _load(task, home, corpus)
    for line in corpus.lines():
        task.say(line)
    work = home / "training"
    if task.settings.get(UNTRAINED):
        tensors, curve, trained = _initial_tensors(recipe, corpus, work), [], 0
    else:
        tensors, curve = train_phases(recipe, corpus, loop, work, task.say, gpu=device == "cuda")
        trained = sum(value.numel() for value in tensors.values())
    shutil.rmtree(home / CHECKPOINT, ignore_errors=True)
    if task.settings.get(SETTLE, True):
        spec, settled = write_settled(recipe, corpus, tensors, home / CHECKPOINT, device=device, say=task.say)
    else:
        spec, settled = recipe.write(home / CHECKPOINT, corpus, tensors), {}
    values = {"options": dict(spec.options), "runtime": dict(spec.runtime), "settled": settled}
    with whole_file(home / FITTED) as path:
        # `settled` may contain calibrations, which are dataclasses.
        path.write_text(json.dumps({**values, "curve": curve, "trained": trained}, default=asdict))
    shutil.rmtree(work, ignore_errors=True)
    return _load(task, home, corpus)


def system_of(task: Task) -> str:
    """The package of the study's system."""
    name = task.study.system
    return name if "." in name else f"engine.models.{name}"


def corpus_of(task: Task) -> Corpus:
    """The arm's corpus, read by its system's recipe with the arm's settings."""
    return base.recipe(system_of(task)).corpus(_settings(task, task.settings))


def settings_under(task: Task, name: str) -> dict[str, Any]:
    """The arm's settings `<name>.<key>`, by their key."""
    return {key.partition(".")[2]: value for key, value in task.settings.items() if key.startswith(f"{name}.")}


def _load(task: Task, home: Path, corpus: Corpus) -> Fitted:
    """The stored model in the folder `home`, with the options of this arm."""
    values = json.loads((home / FITTED).read_text())
    options = {**values["options"], **settings_under(task, ANSWER)}
    runtime = {**values["runtime"], "threads": task.threads}
    spec = ModelSpec(system_of(task), str(home / CHECKPOINT), options, runtime)
    return Fitted(home / CHECKPOINT, home.name, spec, corpus, values["settled"], values["curve"], values["trained"])


def _settings(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's dotted settings as the recipe's plain ones, with defaults.

    Raises:
        ConfigError: the recipe has no such setting.
    """
    kinds = get_type_hints(base.recipe(system_of(task)).Settings)
    not_for_recipe = {
        USE,
        UNTRAINED,
        SETTLE,
        ANSWER,
        TRAIN,
        PRECISION,
        EXPLAIN,
        *(name.rpartition(".")[2] for name in task.study.measure),
    }
    sections: dict[str, dict[str, Any]] = {name: {} for name, kind in kinds.items() if is_dataclass(kind)}
    single = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if section in not_for_recipe:
            continue
        if section in kinds and section not in sections and not key:
            single[section] = value
            continue
        if section not in sections or key not in {field.name for field in fields(kinds[section])}:
            raise ConfigError(f"study: {task.study.name}: no fit or measure has the setting '{name}'")
        sections[section][key] = value
    sections["data"]["path"] = task.corpus
    complete = {name: asdict(kinds[name](**section)) for name, section in sections.items()}
    return {**json.loads(json.dumps(complete)), **single, PRECISION: values.get(PRECISION, "auto"), "seed": task.arm.seed}


def _loop(task: Task, recipe: Recipe, corpus: Corpus) -> LoopConfig:
    """The settings of the training loop. It validates only if a figure on valid may stop the training."""
    settings = settings_under(task, TRAIN)
    unknown = sorted(set(settings) - {field.name for field in fields(LoopConfig)})
    if unknown:
        raise ConfigError(f"study: {task.study.name}: no fit or measure has the setting '{TRAIN}.{unknown[0]}'")
    watch = settings.get("watch") or recipe.watched(corpus.settings)[0]
    validated = bool(settings.get("patience"))
    return LoopConfig(**{**_LOOP, "validated": validated, **settings, "watch": watch, "seed": task.arm.seed})


def _identity(task: Task, corpus: Corpus, loop: LoopConfig, device: str) -> str:
    """The digest of everything that determines the model."""
    settings = _settings(task, task.identity)
    del settings["data"]["path"]
    # The precision that `auto` stands for depends on the machine.
    settings[PRECISION] = str(pick_precision(settings[PRECISION], device))
    encoder = settings.get("model", {}).get("encoder")
    values = {
        "system": task.study.system,
        "settings": settings,
        "loop": asdict(loop),
        "given": corpus.given,
        # If the encoder is a fitted model itself, `settings` has its identity.
        "encoder": encoder_digest(encoder) if encoder and encoder == task.settings.get("model.encoder", encoder) else None,
        "device": device,
        UNTRAINED: bool(task.settings.get(UNTRAINED)),
        SETTLE: bool(task.settings.get(SETTLE, True)),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _initial_tensors(recipe: Recipe, corpus: Corpus, work: Path) -> dict[str, torch.Tensor]:
    """The tensors with which a training of a single phase would begin."""
    (phase,) = recipe.phases(corpus.settings)
    write_examples(corpus.preparation(), str(work.resolve()), work / "sorting")
    settings = {**corpus.settings, **phase.settings, "examples": str(work.resolve())}
    return dict(pkgutil.resolve_name(phase.learner)(settings, Worker()).parameters())
