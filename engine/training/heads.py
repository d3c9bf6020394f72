"""Further heads for a trained model: learned on token states of its frozen encoder, into a new checkpoint beside the old one.

Every text is encoded once, whatever the number of heads and epochs, and its states lie on disk meanwhile (two bytes for each of
a token's numbers: about 770 bytes a token at 384). Of a text longer than `max_tokens` the training sees the beginning; what is
calibrated and measured is the whole report, coded as any other.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from engine.errors import ConfigError, InputChanged
from engine.models.base import ModelSpec
from engine.models.checkpoint import check_new, copy, publish_checkpoint
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.cached import HeadLearner, head_tensors
from engine.models.site_classifier.checkpoint import Checkpoint, TaskCalibration, write_head
from engine.models.site_classifier.config import HEADS, ClassifierConfig
from engine.models.site_classifier.learner import Examples, LearnConfig
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import Taken, encode
from engine.storage import cache_folder, full_path, is_s3, probe, storage_for
from engine.training.card import model_card
from engine.training.data import DataConfig, load_examples, noted, survey
from engine.training.finish import Baseline, Say, Write, calibrated, records_of
from engine.training.fit import STATE
from engine.training.loop import LoopConfig, Worker, train
from engine.training.run import CHANGED, REJECTED_FILE
from engine.training.site_classifier import tokenized

WORK = "_training"
_SYSTEM = "engine.models.site_classifier"


@dataclass(frozen=True)
class HeadsConfig:
    """What is trained on what. `shape` are fields of `ClassifierConfig` for the heads, such as `phrase_reach`.

    `max_tokens` are kept of each training text, `threads` and `batch_tokens` are those of encoding.
    """

    path: str
    heads: tuple[str, ...]
    data: DataConfig
    shape: Mapping[str, Any] = field(default_factory=dict)
    learn: LearnConfig = field(default_factory=LearnConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=6, batch=24, rate=2e-3))
    max_tokens: int = 1024
    precision: str = "auto"
    threads: int = 0
    batch_tokens: int = 8192
    device: str = "cpu"

    def __post_init__(self) -> None:
        unknown = [head for head in self.heads if head not in HEADS]
        if unknown or not self.heads:
            raise ConfigError(f"model.heads: name one or more of {', '.join(HEADS)}")


def train_heads(
    config: HeadsConfig, output: str, *, command: str, say: Say, baseline: Baseline | None = None, evidence_sample: int = 100
) -> dict[str, dict[str, Any]]:
    """Trains heads and writes the checkpoint with them to a new folder; returns each head's figures.

    Encoded texts and trained heads lie below `<output>/_training` (for S3 in this machine's cache) until the checkpoint is whole:
    the same call again goes on with them.

    Raises:
        ConfigError: the folder exists and is not of this training, a head is the model's own, or the data lack one of its tasks.
        InputChanged: the reports are not what they were when this training began.
    """
    output = full_path(os.path.expanduser(output))
    probe(output)
    coder = _coder(config)
    _check(config, coder.config)
    known = survey(config.data)
    known.require()
    for line in known.told():
        say(line)
    examples = load_examples(config.data, found=known)
    work = _claim(config, coder, examples, output)
    if storage_for(output).stat(f"{output}/digest.json") is not None:
        say("this training is finished; nothing to do")
        _clear(config, work)
        return {head: json.loads(storage_for(output).read(f"{output}/heads/{head}/figures.json") or b"") for head in config.heads}
    made = work / "checkpoint"
    copy(coder.checkpoint.folder, made)
    texts, states = _encoded(config, coder, examples, work / "states", say)
    figures = {}
    for head in config.heads:
        shape = replace(coder.config, **config.shape, head=head)
        curve, tensors = _trained(config, shape, coder, texts, states, work / head, say)
        figures[head] = calibrated(
            _writer(made, shape, tensors),
            ModelSpec(_SYSTEM, str(made), {"head": head, "precision": config.precision}, _runtime(config)),
            shape,
            examples,
            curve,
            made / "heads" / head,
            lambda told, shape=shape: model_card(told, shape, command),
            found=known,
            everything=lambda: examples,
            say=say,
            baseline=baseline,
            evidence_sample=evidence_sample,
        )
        if config.data.highlighted:
            pq.write_table(known.rejected, made / "heads" / head / REJECTED_FILE)
    copy(coder.checkpoint.folder, made, card=_card(coder.checkpoint, figures, command))
    publish_checkpoint(made, output)
    _clear(config, work)
    return figures


def _clear(config: HeadsConfig, work: Path) -> None:
    """Removes what a whole checkpoint leaves over; also after one that was killed between both."""
    for folder in ("states", "checkpoint", *config.heads):
        shutil.rmtree(work / folder, ignore_errors=True)


def _trained(
    config: HeadsConfig, shape: ClassifierConfig, coder: SiteCoder, texts: Examples, states: Taken, folder: Path, say: Say
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The curve and the tensors of one head, gone on with where its folder has a checkpoint."""
    torch.manual_seed(config.loop.seed)
    learner = HeadLearner(SiteNetwork(shape, coder.network.encoder), texts, states, config.learn, torch.device(coder.device))
    worker = Worker(device=learner.device, report=lambda row, _: say(_line(shape.head, row)))
    last = folder / "last"
    curve = train(learner, config.loop, worker, folder, last if (last / STATE).is_file() else None)
    return curve, head_tensors(learner.network, {})


def _writer(made: Path, shape: ClassifierConfig, tensors: Mapping[str, Tensor]) -> Write:
    def write(calibration: Mapping[str, TaskCalibration], method: str, card: str) -> str:
        return write_head(made, shape, tensors, calibration, method, card)

    return write


def _encoded(config: HeadsConfig, coder: SiteCoder, examples: pa.Table, folder: Path, say: Say) -> tuple[Examples, Taken]:
    """The texts of train and valid that have tokens, and their states, in one order."""
    shown = examples.filter(pc.not_equal(examples["split"], "test"))
    prepared = coder.prepare(records_of(shown))
    sound = prepared["failure"].is_null()
    shown, prepared = shown.filter(sound), prepared.filter(sound)
    tokens = pc.sum(pc.list_value_length(prepared["input_ids"])).as_py()
    cut = pc.sum(pc.greater(prepared["truncated_chars"], 0)).as_py() or 0
    say(
        f"encoding {len(shown):,} texts of train and valid, {tokens:,} tokens, at most {config.max_tokens:,} of each: "
        f"{cut:,} are longer"
    )
    states = encode(coder, prepared, folder)
    return tokenized(shown, coder.config, coder.tokenizer, config.max_tokens), states


def _coder(config: HeadsConfig) -> SiteCoder:
    options = {"method": "none", "checks": 0.0, "tasks": (), "max_tokens": config.max_tokens, "precision": config.precision}
    return load(ModelSpec(_SYSTEM, config.path, {**options, "pair": PAIR.name}, _runtime(config)))


def _runtime(config: HeadsConfig) -> dict[str, Any]:
    return {"device": config.device, "threads": config.threads, "batch_tokens": config.batch_tokens}


def _check(config: HeadsConfig, model: ClassifierConfig) -> None:
    if model.head in config.heads:
        others = ", ".join(head for head in HEADS if head != model.head)
        raise ConfigError(f"model.heads: {model.head} is the model's own head; take others, of {others}")
    tasks = {task.name: task.multi_label for task in model.tasks}
    if {name: name in config.data.multi_label for name in config.data.labels} != tasks:
        told = ", ".join(f"{name} (of several codes)" if many else name for name, many in tasks.items())
        raise ConfigError(f"data.labels: the model has the tasks {told}; name a column for each of them and no other")
    if model.paired and config.data.pair is None:
        raise ConfigError("data.pair: this model reads pairs of texts; name the column of the second one")


def _claim(config: HeadsConfig, coder: SiteCoder, examples: pa.Table, output: str) -> Path:
    """Makes the output this training's own, or sees that it already is; returns the folder to work in."""
    texts = hashlib.sha256()
    # All that teaches or measures; the name of the file does neither, and codes that nothing is known of follow from the marks.
    for batch in examples.drop_columns(["source", "unknown"]).to_batches(1024):
        texts.update(repr(batch.to_pydict()).encode())
    data = {**noted(vars(config.data)), "path": "", "rationale_table": ""}
    ours = {
        "model": coder.digest,
        "heads": list(config.heads),
        "data": data,
        "texts": texts.hexdigest(),
        **{name: dict(vars(getattr(config, name))) for name in ("learn", "loop")},
        **{name: getattr(config, name) for name in ("shape", "max_tokens", "precision")},
    }
    text = json.dumps(ours, indent=1, sort_keys=True, default=list) + "\n"
    name = hashlib.sha256(f"{output}\0{text}".encode()).hexdigest()[:32]
    work = cache_folder("training") / name if is_s3(output) else Path(output, WORK)
    note = work / "settings.json"
    if not note.is_file():
        check_new(output)
        work.mkdir(parents=True, exist_ok=True)
        storage_for(str(work)).create(str(note), text.encode())
    theirs = json.loads(note.read_text())
    if theirs != json.loads(text):
        if {**theirs, "texts": ours["texts"]} == json.loads(text):
            raise InputChanged(CHANGED)
        raise ConfigError(f"output.path: {output} holds a training with other settings; choose a new folder")
    return work


def _line(head: str, row: Mapping[str, Any]) -> str:
    parts = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name.startswith(("loss_", "valid_"))]
    return f"{head}: step {row['step']} of {row['steps']}, {', '.join(parts)}"


def _card(base: Checkpoint, figures: Mapping[str, Mapping[str, Any]], command: str) -> str:
    card = base.folder / "README.md"
    lines = [card.read_text().rstrip() if card.is_file() else "", "", "## Further heads", ""]
    lines += ["Trained on token states of the encoder above, which stayed as it is, by", "", f"    {command}", ""]
    for head, found in figures.items():
        told = (
            f"{name} {task['model']['accuracy']:.3f} / {task['model']['macro_f1']:.3f}" for name, task in found["tasks"].items()
        )
        lines.append(f"* `model.head={head}`: accuracy / macro-F1 on test: {', '.join(told)}; more in heads/{head}/README.md")
    return "\n".join(lines) + "\n"
