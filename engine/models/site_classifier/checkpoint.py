"""The checkpoint of a site classifier, beside what every checkpoint has (see `engine.models.checkpoint`).

labels.json         the codes of each task with their support, and the pairs of codes that stand together in training
model.safetensors   adapter (fp16) or a tuned encoder (fp32), pools and heads (fp32)
calibration.json    temperature, threshold and their figures for each task, the evidence method, and of a revision its original
heads/<name>/       a further head for the same encoder, adapter and codes: its shape, its pools and linear layers (fp32), and its
                    calibration

A further head is part of the digest that names the model only where that head is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.encoders import encoder_digest, encoder_folder, load_encoder
from engine.errors import ConfigError
from engine.models import checkpoint as checkpoints
from engine.models.checkpoint import MODEL, TOKENIZER, Stored, fill
from engine.models.code_system import CALIBRATION, CodeCheckpoint, calibration_file, read_calibration
from engine.models.code_task import TaskCalibration
from engine.models.site_classifier.config import ClassifierConfig

if TYPE_CHECKING:
    import torch

    from engine.models.site_classifier.network import SiteNetwork

SYSTEM = __package__
LABELS = "labels.json"
FILES = (LABELS, CALIBRATION)
SHIPPED = checkpoints.shipped(SYSTEM)
_ENCODER = "encoder."
# The files that a further head was trained on, and is worth nothing without.
_BASE = (LABELS, MODEL)
_HEAD_KEYS = frozenset({"head", "pool_heads", "pool_width", "phrase_reach"})


@dataclass(frozen=True)
class Checkpoint(CodeCheckpoint):
    """`part` is the folder of a further head, `pairs` are the codes of the first two tasks that stand together in training."""

    evidence_method: str = ""
    pairs: frozenset[tuple[str, str]] = frozenset()


def read_checkpoint(path: str, head: str | None = None) -> Checkpoint:
    """Reads and verifies a checkpoint folder, local or on S3; `shipped` is the shipped model.

    Args:
        head: the name of the head to use; None is the checkpoint's own.

    Raises:
        ConfigError: a file is missing or is not the one that was written, or there is no such head.
    """
    whole = checkpoints.read(path, SYSTEM, FILES)
    labels = whole.values(LABELS)
    config = ClassifierConfig.from_json({**whole.config, "tasks": labels["tasks"]})
    stored = whole
    if head not in (None, config.head):
        stored = _read_head(whole, path, config.head, head)
        config = replace(config, **stored.config)
    calibration = stored.values(CALIBRATION)
    return Checkpoint(
        folder=whole.folder,
        digest=stored.digest,
        config=config,
        calibration=read_calibration(calibration),
        part=None if stored is whole else _part(head),
        evidence_method=calibration["evidence_method"],
        pairs=frozenset((first, second) for first, second in labels["pairs"]),
    )


def _read_head(whole: Stored, path: str, own: str, head: str) -> Stored:
    further = [name.removeprefix("heads/") for name in checkpoints.parts(whole.folder) if name.startswith("heads/")]
    if head not in further:
        heads = ", ".join([f"{own} (its own)", *further])
        raise ConfigError(
            f"model.head: {path} has no head {head}; it has {heads}; to train one: "
            f"python -m jobs.train model.base={path} model.freeze_encoder=true model.head={head} data.path=... output.path=..."
        )
    return checkpoints.read_part(whole, _part(head), (CALIBRATION,), _BASE)


def write_checkpoint(
    folder: Path,
    config: ClassifierConfig,
    tensors: Mapping[str, "torch.Tensor"],
    calibration: Mapping[str, TaskCalibration],
    evidence_method: str,
    pairs: frozenset[tuple[str, str]],
    card: str,
) -> str:
    """Writes a checkpoint and returns its digest; `tensors` are the trained ones by their names in `SiteNetwork`."""
    plain = config.to_json()
    files = {
        LABELS: {"tasks": plain.pop("tasks"), "pairs": sorted(map(list, pairs))},
        **calibration_file(calibration, evidence_method=evidence_method),
    }
    return checkpoints.write(folder, SYSTEM, plain, tensors, encoder_folder(config.encoder) / TOKENIZER, files, card)


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
        tensors: those of the pools and linear layers by their names in `SiteNetwork`.
    """
    plain = {name: value for name, value in config.to_json().items() if name in _HEAD_KEYS}
    files = calibration_file(calibration, evidence_method=evidence_method)
    return checkpoints.write_part(folder, _part(config.head), plain, tensors, files, card, _BASE)


def write_calibration(folder: Path, head: str | None, calibration: Mapping[str, TaskCalibration], evidence_method: str) -> None:
    """Writes a new calibration to a checkpoint, or to a further head of it, that has no card yet."""
    files = calibration_file(calibration, evidence_method=evidence_method)
    checkpoints.revise(folder, files, "not measured yet\n", _part(head))


def _part(head: str | None) -> str | None:
    return f"heads/{head}" if head else None


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str) -> "SiteNetwork":
    """The network with its trained weights, an adapter merged into the encoder."""
    from safetensors.torch import load_file

    if encoder_digest(checkpoint.config.encoder) != checkpoint.config.encoder_digest:
        raise ConfigError(f"the encoder {checkpoint.config.encoder} is not the one this model was trained on")
    tensors = load_file(checkpoint.folder / MODEL)
    if checkpoint.part is not None:
        tensors = {name: value for name, value in tensors.items() if name.startswith(_ENCODER)}
        tensors |= load_file(checkpoint.folder / checkpoint.part / MODEL)
    return assemble(checkpoint.config, tensors, dtype, attention)


def assemble(
    config: ClassifierConfig, tensors: Mapping[str, "torch.Tensor"], dtype: "torch.dtype", attention: str
) -> "SiteNetwork":
    """A network for inference from trained tensors: merged in fp32, then converted to `dtype`."""
    import torch

    from engine.models.adapter import merge
    from engine.models.site_classifier.network import SiteNetwork

    encoder = load_encoder(config.encoder, torch.float32, attention)
    merge(encoder, {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)})
    network = SiteNetwork(config, encoder.to(dtype))
    return fill(network, {name: value for name, value in tensors.items() if not name.startswith(_ENCODER)}, _ENCODER)
