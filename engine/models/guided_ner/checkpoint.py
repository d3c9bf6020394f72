"""The tagger's checkpoint folder: config.json with the architecture, model.safetensors with all weights, the encoder's and the
global table included, tokenizer.json, and decoding.json with the threshold."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from engine.models import checkpoint as checkpoints
from engine.models.checkpoint import MODEL, fill
from engine.models.entities.system import DECODING, Checkpoint
from engine.models.guided_ner.config import Config, Decoding

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor

    from engine.models.guided_ner.network import Network

SYSTEM = __package__


def read_checkpoint(path: str) -> Checkpoint:
    """Reads and verifies a checkpoint folder, local or on S3; `shipped` is the built-in model.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    stored = checkpoints.read(path, SYSTEM, (DECODING,))
    names = ("types", "special")
    values = {name: tuple(value) if name in names else value for name, value in stored.config.items()}
    return Checkpoint(stored.folder, stored.digest, Config(**values), Decoding(**stored.values(DECODING)["decoding"]))


def write_checkpoint(
    folder: Path, config: Config, tensors: Mapping[str, "Tensor"], tokenizer: "Tokenizer", decoding: Decoding
) -> None:
    """Writes a checkpoint that is not settled yet."""
    files = {DECODING: {"decoding": asdict(decoding), "figures": {}}}
    checkpoints.write(folder, SYSTEM, asdict(config), tensors, tokenizer, files, "not settled yet\n")


def load_tensors(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """All weights of a checkpoint by name."""
    from safetensors.torch import load_file

    return load_file(checkpoint.folder / MODEL)


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str = "eager") -> "Network":
    """The network with its trained weights, the encoder in `dtype`.

    Raises:
        ConfigError: a tensor is missing.
    """
    from engine.models.guided_ner.network import Network

    network = fill(Network(checkpoint.config, attention), load_tensors(checkpoint), ":")
    network.encoder.to(dtype)
    return network.eval()
