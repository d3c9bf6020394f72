"""A checkpoint folder: what it holds, how it is written, and how it is verified before a weight is used.

config.json         architecture and the encoder's name and digest
labels.json         each task's codes with their support, and the pairs of codes seen together in training
model.safetensors   adapter (fp16), pools and heads (fp32)
tokenizer.json      the encoder's fast tokenizer
calibration.json    temperature, threshold and their figures for each task, the evidence method, and what a revision revises
README.md           the model card
digest.json         SHA-256 of every file, and the digest that names the model (card left out)
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from engine.encoders import encoder_digest, encoder_folder, file_digest, load_encoder
from engine.errors import ConfigError, EngineError
from engine.models.site_classifier.config import ClassifierConfig
from engine.storage import LocalStorage, cache_folder, full_path, is_s3, storage_for

if TYPE_CHECKING:
    import torch

    from engine.models.site_classifier.network import SiteNetwork

SHIPPED = Path(__file__).parent / "shipped"
_VALUES = ("config.json", "labels.json", "model.safetensors", "tokenizer.json", "calibration.json")
_CARD = "README.md"
_LIST = "digest.json"


@dataclass(frozen=True)
class TaskCalibration:
    """How a task's logits become a decision; `threshold` above 1 means that nothing is sure enough.

    `energy_floor` is the log-sum-exp of the logits under which a report is unlike those the model was calibrated on.
    `isotonic` holds the knots (x, y) of a rising curve that takes the highest probability at this temperature to the share right
    that was seen there, straight between knots. `class_thresholds` stand before `threshold` for the codes they name.
    """

    temperature: float = 1.0
    threshold: float = 1.01
    energy_floor: float = float("-inf")
    figures: Mapping[str, Any] | None = None
    isotonic: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    class_thresholds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, weights not yet loaded."""

    folder: Path
    digest: str
    config: ClassifierConfig
    calibration: Mapping[str, TaskCalibration]
    evidence_method: str
    pairs: frozenset[tuple[str, str]]


def checkpoint_folder(path: str) -> Path:
    """`shipped` is the model in this repository, everything else a folder; one on S3 is copied to this machine.

    Raises:
        ConfigError: a folder on S3 holds no checkpoint.
    """
    if is_s3(path):
        return _fetched(path.rstrip("/"))
    return SHIPPED if path in ("", "shipped") else Path(os.path.expanduser(path))


def _fetched(path: str) -> Path:
    """This machine's copy, under the digest of the list of its files: what is there already is right, as `read_checkpoint`
    verifies each time."""
    storage, local = storage_for(path), LocalStorage()
    listed = storage.read(f"{path}/{_LIST}")
    if listed is None:
        raise ConfigError(f"model.path: {path} is no checkpoint folder (it has no digest.json)")
    folder = cache_folder("checkpoints") / hashlib.sha256(listed).hexdigest()[:32]
    wanted = _listed_files(listed)
    for name in (*_VALUES, _CARD):
        target = folder / name
        if name in wanted and not (target.is_file() and file_digest(target) == wanted[name]):
            data = storage.read(f"{path}/{name}")
            if data is None:
                raise ConfigError(f"model.path: {path} lacks {name}")
            with local.writer(str(target)) as file:
                file.write(data)
    local.create(str(folder / _LIST), listed)
    return folder


def _listed_files(data: bytes) -> Mapping[str, str]:
    try:
        files = json.loads(data)["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError("model.path: it is no checkpoint folder (its digest.json is not readable)") from None


def read_checkpoint(path: str) -> Checkpoint:
    """Reads and verifies a checkpoint folder.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    folder = checkpoint_folder(path)
    try:
        listed = json.loads((folder / _LIST).read_text())
        files = listed["files"]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(f"model.path: {folder} is no checkpoint folder (it has no readable digest.json)") from None
    for name in _VALUES:
        if not (folder / name).is_file():
            raise ConfigError(f"model.path: {folder} lacks {name}")
        if file_digest(folder / name) != files.get(name):
            raise ConfigError(f"model.path: {name} in {folder} is not the file that was trained (its digest differs)")
    if _digest(files) != listed.get("digest"):
        raise ConfigError(f"model.path: digest.json in {folder} does not fit its files")
    labels = json.loads((folder / "labels.json").read_text())
    config = ClassifierConfig.from_json({**json.loads((folder / "config.json").read_text()), "tasks": labels["tasks"]})
    calibration = json.loads((folder / "calibration.json").read_text())
    return Checkpoint(
        folder=folder,
        digest=listed["digest"],
        config=config,
        calibration={name: _calibration(values) for name, values in calibration["tasks"].items()},
        evidence_method=calibration["evidence_method"],
        pairs=frozenset((first, second) for first, second in labels["pairs"]),
    )


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
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    plain = config.to_json()
    tasks = plain.pop("tasks")
    _write(folder / "config.json", plain)
    _write(folder / "labels.json", {"tasks": tasks, "pairs": sorted(map(list, pairs))})
    small = {
        name: value.detach().cpu().to(torch.float16 if name.endswith((".down", ".up")) else torch.float32).contiguous()
        for name, value in tensors.items()
    }
    save_file(small, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    shutil.copyfile(encoder_folder(config.encoder) / "tokenizer.json", folder / "tokenizer.json")
    return _seal(folder, {"evidence_method": evidence_method, "tasks": _plain(calibration)}, card)


def write_revision(output: str, base: Checkpoint, calibration: Mapping[str, TaskCalibration], card: str) -> str:
    """Writes `base` with another calibration to a new folder, local or on S3, and returns the new digest. The base stays.

    Weights, labels and tokenizer are copied byte for byte; `calibration.json` names the digest of the base as `revision_of`. The
    folder appears whole or not at all.

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


def publish_checkpoint(folder: Path, output: str) -> None:
    """Copies the files of a finished checkpoint folder to `output`, a full path.

    `digest.json` comes last, and until it is there nobody takes the rest for a checkpoint. What lies there is written over.
    """
    storage = storage_for(output)
    storage.remove(f"{output}/{_LIST}")
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != _LIST)
    for name in (*names, _LIST):
        with open(folder / name, "rb") as source, storage.writer(f"{output}/{name}") as file:
            shutil.copyfileobj(source, file, 2**20)


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str) -> "SiteNetwork":
    """The network with its trained weights, the adapter merged into the encoder."""
    from safetensors.torch import load_file

    if encoder_digest(checkpoint.config.encoder) != checkpoint.config.encoder_digest:
        raise ConfigError(f"the encoder {checkpoint.config.encoder} is not the one this model was trained on")
    return assemble(checkpoint.config, load_file(checkpoint.folder / "model.safetensors"), dtype, attention)


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
    for name in _VALUES:
        shutil.copyfile(base.folder / name, folder / name)
    return _seal(folder, calibration, card)


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
    floor = values["energy_floor"]
    curve = values.get("isotonic")
    return TaskCalibration(
        values["temperature"],
        values["threshold"],
        float("-inf") if floor is None else floor,
        values["figures"],
        None if curve is None else (tuple(curve[0]), tuple(curve[1])),
        values.get("class_thresholds"),
    )


def _seal(folder: Path, calibration: Mapping[str, Any], card: str) -> str:
    _write(folder / "calibration.json", calibration)
    (folder / _CARD).write_text(card)
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*_VALUES, _CARD)}
    digest = _digest(files)
    _write(folder / _LIST, {"digest": digest, "files": files})
    return digest


def _digest(files: Mapping[str, str]) -> str:
    named = "".join(f"{name}\0{files[name]}\n" for name in _VALUES)
    return hashlib.sha256(named.encode()).hexdigest()


def _plain(calibration: Mapping[str, TaskCalibration]) -> dict[str, dict[str, Any]]:
    """Without the parts that a task does not use, so that a file of before they existed is written again byte for byte."""
    found = {}
    for name, task in calibration.items():
        values = {key: None if value == float("-inf") else value for key, value in vars(task).items()}
        found[name] = {k: v for k, v in values.items() if v is not None or k not in ("isotonic", "class_thresholds")}
    return found


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
