"""The checkpoint of an extractor, beside what every checkpoint has, and how it becomes a network again.

config.json           architecture, types, and the encoder's name and digest
templates.json        what is asked for each type, and where the text comes from, see `templates.source`
model.safetensors     adapter (fp16), or a tuned encoder, and heads (fp32)
prompts.safetensors   soft vectors of the domain and of each type; can be exchanged for another domain's
decoding.json         thresholds, which spans may stand together, and the figures they were set by
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models import checkpoint as checkpoints
from engine.models.checkpoint import MODEL, TOKENIZER, fill
from engine.models.prompt_mrc.config import Decoding, MrcConfig
from engine.models.prompt_mrc.templates import source

if TYPE_CHECKING:
    import torch

    from engine.models.prompt_mrc.network import MrcNetwork

SYSTEM = __package__
TEMPLATES, PROMPTS, DECODING = "templates.json", "prompts.safetensors", "decoding.json"
FILES = (TEMPLATES, PROMPTS, DECODING)
SHIPPED = checkpoints.shipped(SYSTEM)
_ENCODER = "encoder."
_ADAPTER = (".down", ".up")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, weights not yet loaded."""

    folder: Path
    digest: str
    config: MrcConfig
    decoding: Decoding
    figures: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str) -> Checkpoint:
    """Reads and verifies a checkpoint folder, local or on S3; `shipped` is the model that comes along.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    whole = checkpoints.read(path, SYSTEM, FILES)
    decoding = whole.values(DECODING)
    config = MrcConfig.from_json({**whole.config, "queries": [each["text"] for each in whole.values(TEMPLATES)]})
    return Checkpoint(whole.folder, whole.digest, config, Decoding(**decoding["decoding"]), decoding["figures"])


def write_checkpoint(
    folder: Path,
    config: MrcConfig,
    tensors: Mapping[str, "torch.Tensor"],
    decoding: Decoding,
    card: str,
    figures: Mapping[str, Any] | None = None,
) -> str:
    """Writes a checkpoint and returns its digest. `tensors` are those of `trained_tensors`, and what a base model had."""

    def prompts(path: Path) -> None:
        weights = weights_digest(folder, config) if config.is_soft else None
        replace(_module(config, tensors), weights=weights).save(path)

    plain = config.to_json()
    texts = plain.pop("queries")
    asked = [{"type": name, "text": text, **source(config, name, text)} for name, text in zip(config.types, texts, strict=False)]
    files = {
        TEMPLATES: asked,
        PROMPTS: prompts,
        DECODING: {"decoding": decoding.to_json(), "figures": dict(figures or {})},
    }
    kept = {name: value for name, value in tensors.items() if not name.startswith("soft.")}
    return checkpoints.write(folder, SYSTEM, plain, kept, encoder_folder(config.encoder) / TOKENIZER, files, card)


def trained_tensors(network: "MrcNetwork") -> dict[str, "torch.Tensor"]:
    """What a checkpoint keeps of a network: heads, prompts, and the adapter or a tuned encoder."""
    from engine.models.prompt_mrc.prompts import VECTORS

    config, found = network.config, {}
    for name, value in network.state_dict().items():
        short = name.removeprefix("parted.")
        tuned = not config.rank and not config.freeze_encoder
        if short.startswith("soft."):
            continue
        if not short.startswith(_ENCODER) or tuned or short.endswith(_ADAPTER):
            found[short] = value.detach().clone()
    # What training lets the vectors pass ends with it.
    soft = zip(VECTORS, (network.soft.shared, network.soft.own), strict=True) if config.is_soft else ()
    return found | {name: value.detach().clone() for name, value in soft}


def build_network(checkpoint: Checkpoint, dtype: "torch.dtype", attention: str) -> "MrcNetwork":
    """The network with its trained weights, the adapter merged into the encoder."""
    return assemble(checkpoint.config, load_tensors(checkpoint), dtype, attention)


def weights_digest(folder: Path, config: MrcConfig) -> str:
    """What tells the model that soft vectors are learned with from others on the same pretrained encoder: adapter (or tuned
    encoder) and heads in a folder, and what a layer sees where. The vectors themselves, types and questions are no part of it."""
    from safetensors.torch import load_file

    found = hashlib.sha256(repr((config.depth, config.share_layers, config.prompt_room)).encode())
    # By tensors: the same ones need not make the same file, whose order is the library's.
    for name, value in sorted(load_file(folder / MODEL).items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def load_tensors(checkpoint: Checkpoint) -> dict[str, "torch.Tensor"]:
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


def assemble(config: MrcConfig, tensors: Mapping[str, "torch.Tensor"], dtype: "torch.dtype", attention: str) -> "MrcNetwork":
    """A network for inference from trained tensors: merged in fp32, then brought to `dtype`.

    Raises:
        ConfigError: a tensor is missing, or the encoder is not the one that was trained on.
    """
    network = _with_encoder(config, tensors, dtype, attention)
    return fill(network, {name: value for name, value in tensors.items() if not name.startswith(_ENCODER)}, "parted.")


def check_base(base: Checkpoint, config: MrcConfig) -> None:
    """Whether `config` can go on from a base model, see `continued`.

    Raises:
        ConfigError: it cannot.
    """
    if not config.freeze_encoder:
        raise ConfigError("model.freeze_encoder: a training that goes on from a model keeps its encoder; set it to true")
    if config.is_tagger or base.config.is_tagger:
        raise ConfigError("model.base: a tagger has no prompts to train; neither the base nor what goes on from it can be one")
    same = ("encoder", "encoder_digest", "depth", "share_layers", "rank", "match_width", "prompt_room")
    other = [name for name in same if getattr(config, name) != getattr(base.config, name)]
    if other:
        told = ", ".join(f"model.{name}={getattr(base.config, name)}" for name in other if name != "encoder_digest")
        raise ConfigError(f"model.base: to go on from {base.folder} set {told or 'model.encoder to the files that it has'}")


def continued(
    base: Checkpoint, config: MrcConfig, dtype: "torch.dtype", attention: str
) -> tuple["MrcNetwork", dict[str, "torch.Tensor"]]:
    """A network to train prompts for, on another model's encoder and heads, and the base's tensors to be written with it.

    Types that both have, and the domain, go on from the base's soft vectors where these are of the same kind and number; others
    start anew.

    Raises:
        ConfigError: `config` does not freeze the encoder, or differs from the base in more than types, queries and prompts.
    """
    check_base(base, config)
    tensors = load_tensors(base)
    network = _with_encoder(config, tensors, dtype, attention)
    kept = {name: value for name, value in tensors.items() if not name.startswith("soft.")}
    network.load_state_dict({name: value for name, value in kept.items() if not name.startswith(_ENCODER)}, strict=False)
    if config.is_soft:
        _start_soft(network, base, tensors)
    return network.eval(), kept


def _start_soft(network: "MrcNetwork", base: Checkpoint, tensors: Mapping[str, "torch.Tensor"]) -> None:
    from engine.models.prompt_mrc.build import start_soft

    config = network.config
    start_soft(network, load_tokenizer(base.folder))
    alike = all(getattr(config, name) == getattr(base.config, name) for name in ("shared_soft", "type_soft", "deep"))
    if base.config.is_soft and alike and set(config.types) & set(base.config.types):
        network.soft.swap(_module(base.config, tensors))


def _with_encoder(config: MrcConfig, tensors: Mapping[str, "torch.Tensor"], dtype: "torch.dtype", attention: str) -> "MrcNetwork":
    import torch

    from engine.models.adapter import merge
    from engine.models.prompt_mrc.build import pieces
    from engine.models.prompt_mrc.encoder import load_parts
    from engine.models.prompt_mrc.network import MrcNetwork

    encoder = load_parts(config, torch.float32, attention)
    own = {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)}
    merge(encoder, {name: value for name, value in own.items() if name.endswith(_ADAPTER)})
    encoder.load_state_dict({name: value for name, value in own.items() if not name.endswith(_ADAPTER)}, strict=False)
    words = pieces(load_tokenizer(encoder_folder(config.encoder)), config.queries) if config.is_hard else []
    return MrcNetwork(config, encoder.to(dtype), words or [[]] * len(config.types))


def _module(config: MrcConfig, tensors: Mapping[str, "torch.Tensor"]) -> Any:
    import torch

    from engine.models.prompt_mrc.prompts import PromptModule

    if not config.is_soft:
        return PromptModule(config.domain, config.encoder_digest, torch.zeros(0, 1), {})
    own = dict(zip(config.types, tensors["soft.own"], strict=True))
    return PromptModule(config.domain, config.encoder_digest, tensors["soft.shared"], own, config.deep)
