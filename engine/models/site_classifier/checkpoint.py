"""A checkpoint folder: what it holds, how it is written, and how it is verified before a weight is used.

config.json         architecture and the encoder's name and digest
labels.json         each task's codes with their support, and the pairs of codes seen together in training
model.safetensors   adapter (fp16), pools and heads (fp32)
tokenizer.json      the encoder's fast tokenizer
calibration.json    temperature, threshold and their figures for each task, the evidence method, and what a revision revises
README.md           the model card
digest.json         SHA-256 of every file, the digest that names the model (card left out), and the digests of further heads
heads/<name>/       a further head for the same encoder, adapter and codes: config.json, model.safetensors (its pools and linear
                    layers, fp32), calibration.json, README.md and a digest.json of its own

A head takes part in the digest that names the model only where it is the one asked for.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from engine.encoders import encoder_digest, encoder_folder, load_encoder
from engine.errors import ConfigError, EngineError
from engine.models.folder import (
    CARD,
    located,
    parts,
    publish_checkpoint,
    save_tensors,
    seal,
    verified,
    write_json,
    write_list,
)
from engine.models.site_classifier.config import ClassifierConfig
from engine.storage import full_path, is_s3, storage_for

if TYPE_CHECKING:
    import torch

    from engine.models.site_classifier.network import SiteNetwork

SHIPPED = Path(__file__).parent / "shipped"
_VALUES = ("config.json", "labels.json", "model.safetensors", "tokenizer.json", "calibration.json")
_HEAD_VALUES = ("config.json", "model.safetensors", "calibration.json")
# What a further head was trained on, and is worth nothing without.
_BASE = ("labels.json", "model.safetensors")
_HEADS = "heads"
_OF_HEAD = frozenset({"head", "pool_heads", "pool_width", "phrase_samples", "phrase_reach", "branches"})


@dataclass(frozen=True)
class TaskCalibration:
    """How a task's logits become a decision; `threshold` above 1 means that nothing is sure enough.

    `centres` are the mean logits of the reports that the model was calibrated on, one for each code that it gave them; a report
    whose logits lie farther than `farthest` from every one of them is unlike those.
    `isotonic` holds the knots (x, y) of a rising curve that takes the highest probability at this temperature to the share right
    that was seen there, straight between knots. `class_thresholds` stand before `threshold` for the codes they name.
    """

    temperature: float = 1.0
    threshold: float = 1.01
    figures: Mapping[str, Any] | None = None
    isotonic: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    class_thresholds: Mapping[str, float] | None = None
    centres: tuple[tuple[float, ...], ...] | None = None
    farthest: float = float("inf")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, weights not yet loaded. `head` is the folder of a further head that stands for the default one."""

    folder: Path
    digest: str
    config: ClassifierConfig
    calibration: Mapping[str, TaskCalibration]
    evidence_method: str
    pairs: frozenset[tuple[str, str]]
    head: Path | None = None


def checkpoint_folder(path: str) -> Path:
    """`shipped` is the model in this repository, everything else a folder; one on S3 is copied to this machine.

    Raises:
        ConfigError: a folder on S3 holds no checkpoint.
    """
    return located(path, SHIPPED, _VALUES, _HEAD_VALUES)


def read_checkpoint(path: str, head: str | None = None) -> Checkpoint:
    """Reads and verifies a checkpoint folder.

    Args:
        head: the head to take, of those that lie there; None is the checkpoint's own.

    Raises:
        ConfigError: a file is missing or is not the one that was written, or there is no such head.
    """
    folder = checkpoint_folder(path)
    files, digest = verified(folder, _VALUES)
    labels = json.loads((folder / "labels.json").read_text())
    config = ClassifierConfig.from_json({**json.loads((folder / "config.json").read_text()), "tasks": labels["tasks"]})
    mine, own = _heads(folder), None
    if head not in (None, config.head):
        if head not in mine:
            there = ", ".join([f"{config.head} (its own)", *mine])
            raise ConfigError(
                f"model.head: {path} has no head {head}; it has {there}; to train one: "
                f"python -m jobs.train_head model.path={path} model.heads=[{head}] data.path=... output.path=..."
            )
        own = folder / _HEADS / head
        _, of_head = verified(own, _HEAD_VALUES)
        values = json.loads((own / "config.json").read_text())
        if of_head != mine[head] or values.pop("base") != {name: files[name] for name in _BASE}:
            raise ConfigError(f"model.head: the head {head} in {folder} was not made for this model")
        config = replace(config, **values)
        digest = hashlib.sha256(f"{digest}\0{of_head}".encode()).hexdigest()
    calibration = json.loads(((own or folder) / "calibration.json").read_text())
    return Checkpoint(
        folder=folder,
        digest=digest,
        config=config,
        calibration={name: _calibration(values) for name, values in calibration["tasks"].items()},
        evidence_method=calibration["evidence_method"],
        pairs=frozenset((first, second) for first, second in labels["pairs"]),
        head=own,
    )


def _heads(folder: Path) -> Mapping[str, str]:
    """The further heads of a checkpoint folder, each with its digest."""
    return {name.removeprefix(f"{_HEADS}/"): digest for name, digest in parts(folder).items() if name.startswith(f"{_HEADS}/")}


def write_checkpoint(
    folder: Path,
    config: ClassifierConfig,
    tensors: Mapping[str, "torch.Tensor"],
    calibration: Mapping[str, TaskCalibration],
    evidence_method: str,
    pairs: frozenset[tuple[str, str]],
    card: str,
) -> str:
    """Writes a checkpoint and returns its digest. `tensors` are the trained ones by their name in `SiteNetwork`."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = config.to_json()
    tasks = plain.pop("tasks")
    write_json(folder / "config.json", plain)
    write_json(folder / "labels.json", {"tasks": tasks, "pairs": sorted(map(list, pairs))})
    save_tensors(folder / "model.safetensors", tensors)
    shutil.copyfile(encoder_folder(config.encoder) / "tokenizer.json", folder / "tokenizer.json")
    return _seal(folder, _VALUES, {"evidence_method": evidence_method, "tasks": _plain(calibration)}, card)


def copy_checkpoint(base: Checkpoint, folder: Path, card: str | None = None) -> None:
    """Copies a checkpoint with all its heads to a folder on this machine, with another model card if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_VALUES, CARD):
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    for name in _heads(base.folder):
        shutil.copytree(base.folder / _HEADS / name, folder / _HEADS / name, dirs_exist_ok=True)
    if card is not None:
        (folder / CARD).write_text(card)
    write_list(folder, _VALUES)


def write_head(
    folder: Path,
    config: ClassifierConfig,
    tensors: Mapping[str, "torch.Tensor"],
    calibration: Mapping[str, TaskCalibration],
    evidence_method: str,
    card: str,
) -> str:
    """Writes a further head, named by `config.head`, into a checkpoint folder; returns the digest of the model with that head.

    Args:
        tensors: those of pools and linear layers by their name in `SiteNetwork`.
    """
    own = folder / _HEADS / config.head
    own.mkdir(parents=True, exist_ok=True)
    files, _ = verified(folder, _VALUES)
    plain = {name: value for name, value in config.to_json().items() if name in _OF_HEAD}
    write_json(own / "config.json", {**plain, "base": {name: files[name] for name in _BASE}})
    save_tensors(own / "model.safetensors", tensors)
    _seal(own, _HEAD_VALUES, {"evidence_method": evidence_method, "tasks": _plain(calibration)}, card)
    write_list(folder, _VALUES)
    return read_checkpoint(str(folder), config.head).digest


def write_revision(output: str, base: Checkpoint, calibration: Mapping[str, TaskCalibration], card: str) -> str:
    """Writes `base` with another calibration to a new folder, local or on S3, and returns the new digest. The base stays.

    Weights, labels, tokenizer and all heads are copied byte for byte; the calibration of the base's head names the digest of the
    base as `revision_of`. The folder appears whole or not at all.

    Raises:
        ConfigError: the folder exists, or cannot be written.
    """
    check_new(output)
    values = {"evidence_method": base.evidence_method, "tasks": _plain(calibration), "revision_of": base.digest}
    if is_s3(output):
        with TemporaryDirectory(prefix="marginalia-") as building:
            digest = _build(Path(building), base, values, card)
            _publish_new(Path(building), full_path(output))
        return digest
    folder = Path(output)
    building = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    try:
        building.mkdir(parents=True)
        digest = _build(building, base, values, card)
        os.rename(building, folder)
    except OSError as error:
        raise ConfigError(f"output.path: cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return digest


def check_new(output: str) -> None:
    """ConfigError if there is anything where a revision is to be written."""
    taken = storage_for(output).is_folder(full_path(output)) if is_s3(output) else os.path.lexists(output)
    if taken:
        raise _exists(output)


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str) -> "SiteNetwork":
    """The network with its trained weights, the adapter merged into the encoder."""
    from safetensors.torch import load_file

    if encoder_digest(checkpoint.config.encoder) != checkpoint.config.encoder_digest:
        raise ConfigError(f"the encoder {checkpoint.config.encoder} is not the one this model was trained on")
    tensors = load_file(checkpoint.folder / "model.safetensors")
    if checkpoint.head is not None:
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
        tensors |= load_file(checkpoint.head / "model.safetensors")
    return assemble(checkpoint.config, tensors, dtype, attention)


def assemble(
    config: ClassifierConfig, tensors: Mapping[str, "torch.Tensor"], dtype: "torch.dtype", attention: str
) -> "SiteNetwork":
    """A network for inference from trained tensors: merged in fp32, then brought to `dtype`."""
    import torch

    from engine.models.adapter import merge
    from engine.models.site_classifier.network import SiteNetwork

    encoder = load_encoder(config.encoder, torch.float32, attention)
    prefix = "encoder."
    merge(encoder, {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
    network = SiteNetwork(config, encoder.to(dtype))
    rest = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    missing = [name for name in network.state_dict() if not name.startswith(prefix) and name not in rest]
    if missing:
        raise ConfigError(f"model.path: model.safetensors lacks {', '.join(missing[:3])}")
    network.load_state_dict(rest, strict=False)
    return network.eval().requires_grad_(False)


def _build(folder: Path, base: Checkpoint, calibration: Mapping[str, Any], card: str) -> str:
    copy_checkpoint(base, folder)
    if base.head is None:
        return _seal(folder, _VALUES, calibration, card)
    _seal(folder / _HEADS / base.head.name, _HEAD_VALUES, calibration, card)
    write_list(folder, _VALUES)
    return read_checkpoint(str(folder), base.head.name).digest


def _exists(output: str) -> ConfigError:
    return ConfigError(f"output.path: {output} exists; a revision is written to a new folder")


def _publish_new(folder: Path, output: str) -> None:
    """Publishes to a name on S3 that nobody has taken: of several callers one wins, and one that fails leaves nothing."""
    storage = storage_for(output)
    if not storage.create(f"{output}/calibration.json", (folder / "calibration.json").read_bytes()):
        raise _exists(output)
    try:
        publish_checkpoint(folder, output)
    except BaseException:
        with suppress(EngineError):
            storage.remove_folder(output)
        raise


def _calibration(values: Mapping[str, Any]) -> TaskCalibration:
    curve, centres = values.get("isotonic"), values.get("centres")
    return TaskCalibration(
        values["temperature"],
        values["threshold"],
        values["figures"],
        None if curve is None else (tuple(curve[0]), tuple(curve[1])),
        values.get("class_thresholds"),
        None if centres is None else tuple(map(tuple, centres)),
        values.get("farthest", float("inf")),
    )


def _seal(folder: Path, names: Sequence[str], calibration: Mapping[str, Any], card: str) -> str:
    write_json(folder / "calibration.json", calibration)
    return seal(folder, names, card)


def _plain(calibration: Mapping[str, TaskCalibration]) -> dict[str, dict[str, Any]]:
    """Without the parts that a task does not use."""
    parts = ("isotonic", "class_thresholds", "centres", "farthest")
    return {
        name: {key: value for key, value in vars(task).items() if key not in parts or value not in (None, float("inf"))}
        for name, task in calibration.items()
    }
