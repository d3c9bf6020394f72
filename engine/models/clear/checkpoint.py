"""The checkpoint folder: config.json, model.safetensors with the projections and what encoders learned, the text encoder's
tokenizer.json, concepts.parquet with the observations, space.safetensors with what answers are made of, and calibration.json."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from engine.encoders import encoder_folder
from engine.errors import ConfigError
from engine.models import checkpoint as checkpoints
from engine.models.checkpoint import MODEL, TOKENIZER
from engine.models.clear.config import Config
from engine.models.clear.space import SPACE, Space
from engine.models.findings.decide import FindingCalibration
from engine.models.findings.system import CALIBRATION, FindingCheckpoint, calibration_file, read_calibration
from engine.storage import storage_for
from engine.vision.encoders import image_encoder_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.clear.concepts import Bank
    from engine.models.clear.serving import Network

SYSTEM = __package__
CONCEPTS, BANK = "concepts.parquet", "bank.parquet"
# Bytes up to which a bank goes with its model.
_SMALL = 8 << 20
FILES = (CONCEPTS, SPACE, CALIBRATION)


class Checkpoint(FindingCheckpoint):
    """A verified checkpoint without its weights."""

    def space(self) -> Space:
        return Space.load(self.folder)

    def bank(self) -> "Bank":
        """The whole bank that the model was made with.

        Raises:
            ConfigError: it is gone. InputChanged: another one is in its place.
        """
        # Serving needs no bank, nor what makes one.
        from engine.models.clear.concepts import read_bank

        path, sha256 = (self.config.bank[name] for name in ("path", "sha256"))
        return read_bank(str(self.folder / path) if path == BANK else path, sha256)

    def concepts(self) -> pa.Table:
        """`concept_id`, `text` and `n_reports` of each concept, in the order of the space."""
        return pq.read_table(self.folder / CONCEPTS)


def read_checkpoint(path: str) -> Checkpoint:
    """Reads and verifies a checkpoint folder, local or on S3; `shipped` is the built-in model.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    stored = checkpoints.read(path, SYSTEM, FILES)
    names = ("findings", "trained")
    values = {name: tuple(value) if name in names else value for name, value in stored.config.items()}
    return Checkpoint(stored.folder, stored.digest, Config(**values), read_calibration(stored.values(CALIBRATION)))


def write_checkpoint(folder: Path, config: Config, tensors: "Mapping[str, Tensor]", concepts: pa.Table, space: Space) -> None:
    """Writes a checkpoint that is not settled yet: its findings have no thresholds. A small bank is copied into it."""
    bank = storage_for(config.bank["path"]).read(config.bank["path"])
    if bank is None:
        raise ConfigError(f"model.bank: there is no file {config.bank['path']}")
    small = len(bank) <= _SMALL
    config = replace(config, bank={**config.bank, "path": BANK}) if small else config
    files = {
        CONCEPTS: lambda path: pq.write_table(concepts, path, compression="zstd"),
        SPACE: space.save,
        **calibration_file({name: FindingCalibration() for name in config.findings}),
        **({BANK: lambda path: path.write_bytes(bank)} if small else {}),
    }
    tokenizer = encoder_folder(config.text) / TOKENIZER
    checkpoints.write(folder, SYSTEM, asdict(config), tensors, tokenizer, files, "not settled yet\n")


def settle_checkpoint(
    folder: Path, calibration: Mapping[str, FindingCalibration], concepts: pa.Table | None = None, space: Space | None = None
) -> None:
    """Rewrites the thresholds of a checkpoint, and where they are given its concepts and its space."""
    files = calibration_file(calibration)
    if space is not None:
        files |= {SPACE: space.save}
    if concepts is not None:
        files |= {CONCEPTS: lambda path: pq.write_table(concepts, path, compression="zstd")}
    checkpoints.revise(folder, files, "not measured yet\n")


def load_tensors(checkpoint: Checkpoint) -> "dict[str, Tensor]":
    """The trained tensors by name."""
    from safetensors.torch import load_file

    return load_file(checkpoint.folder / MODEL)


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype") -> "Network":
    """The network that serves, with its trained weights, the image encoder in `dtype`.

    Raises:
        ConfigError: the image encoder is not the one that the model was trained with.
    """
    from engine.models.clear.serving import Network

    check_encoder(checkpoint.config)
    return Network.of(checkpoint.config, load_tensors(checkpoint), checkpoint.space(), dtype)


def check_encoder(config: Config) -> None:
    """ConfigError if a frozen image encoder is not the one of the training. That of texts is not needed any more."""
    if "image" not in config.trained and image_encoder_digest(config.image) != config.image_digest:
        raise ConfigError(
            f"model.path: the weights of {config.image} are not those that the model was trained with; "
            "restore that version of the encoder, or train again"
        )
