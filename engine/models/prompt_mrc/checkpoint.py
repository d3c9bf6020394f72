"""An extractor's own files in its checkpoint folder, and networks from a checkpoint.

config.json           architecture, types, and the encoder's name and digest
templates.json        the text that asks for each type, and where it comes from, see `templates.source`
model.safetensors     adapter (fp16), or a tuned encoder, and heads (fp32)
prompts.safetensors   soft vectors of the domain and of each type; can be exchanged for another domain's
decoding.json         thresholds, which spans may overlap, words of the longest span, and the figures that it was tuned for
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models import checkpoint as checkpoints
from engine.models.checkpoint import MODEL, TOKENIZER, fill
from engine.models.entities.system import DECODING, Checkpoint
from engine.models.prompt_mrc.config import Decoding, MrcConfig
from engine.models.prompt_mrc.templates import source

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from engine.models.prompt_mrc.network import MrcNetwork
    from engine.models.prompt_mrc.prompts import PromptModule

SYSTEM = __package__
TEMPLATES, PROMPTS = "templates.json", "prompts.safetensors"
FILES = (TEMPLATES, PROMPTS, DECODING)
SHIPPED = checkpoints.shipped(SYSTEM)
_ENCODER, _SOFT = "encoder.", "soft."
_ADAPTER = (".down", ".up")
# Settings that older checkpoints list and that always had the values which are constants now.
_CONSTANT = ("max_words", "prior")


def read_checkpoint(path: str) -> Checkpoint:
    """Reads and verifies a checkpoint folder, local or on S3; `shipped` is the built-in model.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    stored = checkpoints.read(path, SYSTEM, FILES)
    values = {name: value for name, value in stored.config.items() if name not in _CONSTANT}
    config = MrcConfig(**values, queries=[each["text"] for each in stored.values(TEMPLATES)])
    return Checkpoint(stored.folder, stored.digest, config, config.decoding_type(**stored.values(DECODING)["decoding"]))


def write_checkpoint(folder: Path, config: MrcConfig, tensors: Mapping[str, "Tensor"], decoding: Decoding, card: str) -> str:
    """Writes a checkpoint and returns its digest. `tensors` are those of `trained_tensors`, and a base model's that it keeps."""

    def prompts(path: Path) -> None:
        _prompts(config, tensors, weights_digest(folder, config) if config.is_soft else None).save(path)

    values = asdict(config)
    texts = zip(config.types, values.pop("queries"), strict=False)
    files = {
        TEMPLATES: [{"type": name, "text": text, **source(config, name, text)} for name, text in texts],
        PROMPTS: prompts,
        DECODING: {"decoding": asdict(decoding), "figures": {}},
    }
    weights = {name: value for name, value in tensors.items() if not name.startswith(_SOFT)}
    return checkpoints.write(folder, SYSTEM, values, weights, encoder_folder(config.encoder) / TOKENIZER, files, card)


def trained_tensors(network: "MrcNetwork") -> dict[str, "Tensor"]:
    """The tensors of a network that its checkpoint keeps: heads, soft vectors, and the adapter or a tuned encoder."""
    config, tensors = network.config, {}
    tuned = not config.rank and not config.freeze_encoder
    for name, value in network.state_dict().items():
        name = name.removeprefix("parted.")
        if not name.startswith(_ENCODER) or tuned or name.endswith(_ADAPTER):
            tensors[name] = value.detach().clone()
    return tensors


def load_tensors(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The trained tensors of a checkpoint by name."""
    import torch
    from safetensors.torch import load_file

    from engine.models.prompt_mrc.prompts import PromptModule

    tensors = load_file(checkpoint.folder / MODEL)
    if checkpoint.config.is_soft:
        module = PromptModule.read(checkpoint.folder / PROMPTS)
        tensors["soft.shared"] = module.shared
        tensors["soft.own"] = torch.stack([module.own[name] for name in checkpoint.config.types])
    return tensors


def weights_digest(folder: Path, config: MrcConfig) -> str:
    """A digest of what soft vectors depend on beside the pretrained encoder: the adapter (or tuned encoder) and heads in a
    folder, and which layers see what. The vectors themselves, types and questions have no part in it."""
    from safetensors.torch import load_file

    digest = hashlib.sha256(repr((config.depth, config.share_layers, config.prompt_room)).encode())
    # By tensors, since the library chooses their order in the file.
    for name, value in sorted(load_file(folder / MODEL).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str) -> "MrcNetwork":
    """The network for inference with its trained weights, the adapter merged into the encoder in fp32.

    Raises:
        ConfigError: a tensor is missing, or the encoder is not the one that was trained on.
    """
    tensors = load_tensors(checkpoint)
    network = _with_encoder(checkpoint.config, tensors, dtype, attention)
    return fill(network, {name: value for name, value in tensors.items() if not name.startswith(_ENCODER)}, "parted.")


def check_base(base: Checkpoint, config: MrcConfig) -> None:
    """Checks that a training of `config` can continue from a base model.

    Raises:
        ConfigError: `config` does not freeze the encoder, or differs from the base in more than types, queries and prompts.
    """
    if not config.freeze_encoder:
        raise ConfigError("model.freeze_encoder: a training that continues from a model keeps its encoder; set it to true")
    if config.is_tagger or base.config.is_tagger:
        raise ConfigError("model.base: a tagger has no prompts to train; neither model.base nor the new model can be one")
    same = ("encoder", "encoder_digest", "depth", "share_layers", "rank", "match_width", "prompt_room")
    different = [name for name in same if getattr(config, name) != getattr(base.config, name)]
    if different:
        settings = [f"model.{name}={getattr(base.config, name)}" for name in different if name != "encoder_digest"]
        raise ConfigError(
            f"model.base: to continue from {base.folder} set {', '.join(settings) or 'model.encoder to the files that it has'}"
        )


def continue_from(
    base: Checkpoint, config: MrcConfig, dtype: "torch.dtype", attention: str
) -> tuple["MrcNetwork", dict[str, "Tensor"]]:
    """A network with a base model's encoder and heads, to train prompts for, and the base's tensors that its checkpoint keeps.

    The soft vectors of common types and of the domain start from the base's, if these are of the same kind and number; others
    start anew.

    Raises:
        ConfigError: see `check_base`.
    """
    check_base(base, config)
    tensors = load_tensors(base)
    network = _with_encoder(config, tensors, dtype, attention)
    weights = {name: value for name, value in tensors.items() if not name.startswith(_SOFT)}
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith(_ENCODER)}, strict=False)
    network.start_soft(load_tokenizer(base.folder))
    alike = all(getattr(config, name) == getattr(base.config, name) for name in ("is_soft", "shared_soft", "type_soft", "deep"))
    if config.is_soft and alike and set(config.types) & set(base.config.types):
        network.soft.replace(_prompts(base.config, tensors))
    return network.eval(), weights


def _with_encoder(config: MrcConfig, tensors: Mapping[str, "Tensor"], dtype: "torch.dtype", attention: str) -> "MrcNetwork":
    """A network with fresh heads and prompts, and its encoder with trained tensors."""
    import torch

    from engine.models.adapter import merge
    from engine.models.prompt_mrc.encoder import load_layers
    from engine.models.prompt_mrc.network import MrcNetwork

    encoder = load_layers(config, torch.float32, attention)
    merge(encoder, {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)})
    return MrcNetwork(config, encoder.to(dtype), load_tokenizer(encoder_folder(config.encoder)))


def _prompts(config: MrcConfig, tensors: Mapping[str, "Tensor"], weights: str | None = None) -> "PromptModule":
    import torch

    from engine.models.prompt_mrc.prompts import PromptModule

    if not config.is_soft:
        return PromptModule(config.domain, config.encoder_digest, torch.zeros(0, 1), {})
    own = dict(zip(config.types, tensors["soft.own"], strict=True))
    return PromptModule(config.domain, config.encoder_digest, tensors["soft.shared"], own, config.deep, weights)
