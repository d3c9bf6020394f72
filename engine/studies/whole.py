"""Fits an arm as the product is trained: by its system's recipe, in this process, to a checkpoint that is settled on valid.

    <section>.<key>       as for jobs.train: data.share, model.mode, learn.masking; data.path is the arm's corpus
    <key>                 a single key of the system: evidence_sample
    train.<key>           of `engine.training.config.LoopConfig`
    precision             auto, fp32 or bf16
    untrained: true       the checkpoint of what training would begin with
    settle: false         thresholds stay as they begin
    use: {after: ...}     no training: another arm's model, measured on this arm's corpus
    answer.<option>       of the product while it is measured: questions, prompts of another checkpoint
    <measure>.<key>       what a measure of the study reads

A model is kept in `<models>/<system>/<digest>`, the digest of all that it learned from: `checkpoint/`, and `fitted.json`,
which is written last.
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
from engine.models.base import Corpus, ModelSpec, Recipe, recipe
from engine.storage import whole_file
from engine.studies.run import Task
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.loop import Worker
from engine.training.run import train_phases, write_settled

USE, UNTRAINED, SETTLE, ANSWER, TRAIN, PRECISION = "use", "untrained", "settle", "answer", "train", "precision"
CHECKPOINT, FITTED = "checkpoint", "fitted.json"
_LOOP = {"report_every": 50, "checkpoint_every": 200}


@dataclass(frozen=True)
class Fitted:
    """A checkpoint, and the corpus that it is measured on.

    Args:
        folder: the checkpoint. spec: how the product loads it, with the arm's own options.
        settled: what settling found on valid. curve: of the training. trained: numbers that were trained.
    """

    folder: Path
    identity: str
    spec: ModelSpec
    corpus: Corpus
    settled: Mapping[str, Any]
    curve: Sequence[Mapping[str, Any]]
    trained: int


def fit(task: Task) -> Fitted:
    """The model of an arm: the one that is there, or one trained now; a training that was stopped goes on.

    Raises:
        ConfigError: a setting is unknown, or cannot be trained with.
    """
    set_threads(task.threads)
    how, device = recipe(system_of(task)), "cuda" if torch.cuda.is_available() else "cpu"
    corpus = corpus_of(task)
    if USE in task.settings:
        return _kept(task, Path(task.settings[USE]).parent, corpus)
    loop = _loop(task, how, corpus)
    identity = _identity(task, corpus, loop, device)
    home = task.models / task.study.system / identity
    if (home / FITTED).is_file():
        task.say("trained before")
        return _kept(task, home, corpus)
    for line in corpus.lines():
        task.say(line)
    work = home / "training"
    if task.settings.get(UNTRAINED):
        tensors, curve, trained = _untrained(how, corpus, work), [], 0
    else:
        tensors, curve = train_phases(how, corpus, loop, work, task.say, gpu=device == "cuda")
        trained = sum(value.numel() for value in tensors.values())
    shutil.rmtree(home / CHECKPOINT, ignore_errors=True)
    if task.settings.get(SETTLE, True):
        spec, settled = write_settled(how, corpus, tensors, home / CHECKPOINT, device=device, say=task.say)
    else:
        spec, settled = how.write(home / CHECKPOINT, corpus, tensors), {}
    values = {"options": dict(spec.options), "runtime": dict(spec.runtime), "settled": settled}
    with whole_file(home / FITTED) as part:
        # What settling found may hold calibrations.
        part.write_text(json.dumps({**values, "curve": curve, "trained": trained}, default=asdict))
    shutil.rmtree(work, ignore_errors=True)
    return _kept(task, home, corpus)


def system_of(task: Task) -> str:
    """The package of the study's system."""
    name = task.study.system
    return name if "." in name else f"engine.models.{name}"


def corpus_of(task: Task) -> Corpus:
    """The arm's corpus, read by its system's recipe under the arm's settings."""
    return recipe(system_of(task)).corpus(_settings(task, task.settings))


def settings_under(task: Task, name: str) -> dict[str, Any]:
    """The arm's settings whose first part is `name`, without it."""
    return {key.partition(".")[2]: value for key, value in task.settings.items() if key.startswith(f"{name}.")}


def _kept(task: Task, home: Path, corpus: Corpus) -> Fitted:
    values = json.loads((home / FITTED).read_text())
    options = {**values["options"], **settings_under(task, ANSWER)}
    runtime = {**values["runtime"], "threads": task.threads}
    spec = ModelSpec(system_of(task), str(home / CHECKPOINT), options, runtime)
    return Fitted(home / CHECKPOINT, home.name, spec, corpus, values["settled"], values["curve"], values["trained"])


def _settings(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's plain settings, with defaults, of an arm's dotted ones.

    Raises:
        ConfigError: the recipe has no such setting.
    """
    kinds = get_type_hints(recipe(system_of(task)).Settings)
    aside = {USE, UNTRAINED, SETTLE, ANSWER, TRAIN, PRECISION, *(name.rpartition(".")[2] for name in task.study.measure)}
    given: dict[str, dict[str, Any]] = {name: {} for name, kind in kinds.items() if is_dataclass(kind)}
    single = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if section in aside:
            continue
        if section in kinds and section not in given and not key:
            single[section] = value
            continue
        if section not in given or key not in {field.name for field in fields(kinds[section])}:
            raise ConfigError(f"study: {task.study.name}: no fit or measure has the setting '{name}'")
        given[section][key] = value
    given["data"]["path"] = task.corpus
    made = {name: asdict(kinds[name](**section)) for name, section in given.items()}
    return {**json.loads(json.dumps(made)), **single, PRECISION: values.get(PRECISION, "auto"), "seed": task.arm.seed}


def _loop(task: Task, how: Recipe, corpus: Corpus) -> LoopConfig:
    """The loop's settings; valid is looked at while training only where a figure on it may end it."""
    given = settings_under(task, TRAIN)
    unknown = sorted(set(given) - {field.name for field in fields(LoopConfig)})
    if unknown:
        raise ConfigError(f"study: {task.study.name}: no fit or measure has the setting '{TRAIN}.{unknown[0]}'")
    watch = given.get("watch") or how.watched(corpus.settings)[0]
    validated = bool(given.get("patience"))
    return LoopConfig(**{**_LOOP, "validated": validated, **given, "watch": watch, "seed": task.arm.seed})


def _identity(task: Task, corpus: Corpus, loop: LoopConfig, device: str) -> str:
    settings = _settings(task, task.identity)
    del settings["data"]["path"]
    # What auto stands for is the machine's.
    settings[PRECISION] = str(pick_precision(settings[PRECISION], device))
    encoder = settings.get("model", {}).get("encoder")
    values = {
        "system": task.study.system,
        "settings": settings,
        "loop": asdict(loop),
        "given": corpus.given,
        # Of a model that is fitted itself the identity stands in the settings.
        "encoder": encoder_digest(encoder) if encoder and encoder == task.settings.get("model.encoder", encoder) else None,
        "device": device,
        UNTRAINED: bool(task.settings.get(UNTRAINED)),
        SETTLE: bool(task.settings.get(SETTLE, True)),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _untrained(how: Recipe, corpus: Corpus, work: Path) -> dict[str, torch.Tensor]:
    """The tensors that the only phase of a training would begin with."""
    (phase,) = how.phases(corpus.settings)
    write_examples(corpus.preparation(), str(work.resolve()), work / "sorting")
    settings = {**corpus.settings, **phase.settings, "examples": str(work.resolve())}
    return dict(pkgutil.resolve_name(phase.learner)(settings, Worker()).parameters())
