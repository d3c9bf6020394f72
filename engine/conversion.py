"""Encoders as they are published into what the product reads: model.safetensors and a fast tokenizer, once, with digests.

Reads model.safetensors or pytorch_model.bin, from which tensors alone are unpickled, and tokenizer.json, vocab.txt, or vocab.json
with merges.txt. Heads of a pretraining and the pooler are left out: nobody reads them.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import WEIGHTS, encoder_config, file_digest, load_tokenizer, special_ids, without_pooler
from engine.errors import ConfigError
from engine.hub import fetch
from engine.storage import is_s3, whole_folder
from engine.storage.claim import Kind, check, read

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LIST = "digest.json"
_PICKLED = "pytorch_model.bin"
_FAST, _TOLD, _PIECES = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
_BYTES = ("vocab.json", "merges.txt")
_SMALL = ("config.json", _FAST, _TOLD, "special_tokens_map.json", _PIECES, *_BYTES)
_FOLDER = Kind("converted encoder", "holds another one ({changes}); name a new folder", note=LIST)


def convert(name: str, output: str | Path) -> list[str]:
    """Writes an encoder to a folder, whole or not at all, and returns what there is to say about it.

    Args:
        name: `path:<folder>` or `hub:<id>@<commit>`.
    Raises:
        ConfigError: there is no such encoder, its files are not what they should be, or the folder holds something else.
    """
    if is_s3(str(output)):
        raise ConfigError(f"output.path: {output} is on S3, and an encoder is read from a folder of the machine; name one")
    output = Path(output).absolute()
    kind, _, rest = name.partition(":")
    if kind not in ("path", "hub"):
        raise ConfigError(f"encoder: '{name}' cannot be converted; name path:<folder> or hub:<id>@<commit>")
    name = f"path:{os.path.abspath(os.path.expanduser(rest))}" if kind == "path" else name
    check(str(output), {"encoder": name}, _FOLDER)
    done = read(str(output), _FOLDER)
    if done is not None:
        _check_unchanged(output, done["files"])
        return [f"{output} holds it already; there is nothing to do"]
    folder = fetch(rest, _SMALL) if kind == "hub" else Path(name.partition(":")[2])
    config, weights = encoder_config(name, folder), _weights(name, folder)
    with whole_folder(output) as building:
        _write_weights(name, folder, weights, building, config)
        how = _write_tokenizer(name, folder, building, config)
        files = {path.name: file_digest(path) for path in sorted(building.iterdir())}
        used = {each: file_digest(folder / each) for each in (*_SMALL, weights) if (folder / each).is_file()}
        facts = {"settings": {"encoder": name}, "read": used, "files": files}
        (building / LIST).write_text(json.dumps(facts, indent=1) + "\n")
    return [f"weights: {weights}, sha256 {used[weights]}", f"tokenizer: {how}", f"model.safetensors: sha256 {files[WEIGHTS]}"]


def _check_unchanged(output: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if not (output / name).is_file() or file_digest(output / name) != digest:
            raise ConfigError(f"output.path: {name} in {output} is not the file that was written; name a new folder")


def _weights(name: str, folder: Path) -> str:
    """The file with the weights, fetched if the encoder is on the hub."""
    for weights in (WEIGHTS, _PICKLED):
        if name.startswith("hub:"):
            fetch(name.removeprefix("hub:"), [weights])
        if (folder / weights).is_file():
            return weights
    raise ConfigError(f"encoder: {name} has neither {WEIGHTS} nor {_PICKLED}, each in one piece")


def _write_weights(name: str, folder: Path, weights: str, building: Path, config: "PretrainedConfig") -> None:
    import pickle

    from safetensors import SafetensorError
    from transformers import AutoModel

    options = {"local_files_only": True, "use_safetensors": weights == WEIGHTS, "weights_only": True, "output_loading_info": True}
    try:
        encoder, found = AutoModel.from_pretrained(folder, **options, **without_pooler(config))
    except (pickle.UnpicklingError, SafetensorError, EOFError, OSError, ValueError, TypeError, AttributeError, LookupError):
        raise ConfigError(f"encoder: {weights} of {name} holds more than tensors, or is not whole; it is not read") from None
    except RuntimeError:
        raise ConfigError(f"encoder: {weights} of {name} cannot be read, or its tensors do not fit its config.json") from None
    if found["missing_keys"]:
        first, *more = sorted(found["missing_keys"])
        raise ConfigError(f"encoder: {weights} of {name} lacks {first}{f' and {len(more)} more tensors' if more else ''}")
    encoder.save_pretrained(building, max_shard_size="1TB")


def _write_tokenizer(name: str, folder: Path, building: Path, config: "PretrainedConfig") -> str:
    """Writes tokenizer.json and says how it was made."""
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True}
    if (folder / _FAST).is_file():
        how = _FAST
        shutil.copyfile(folder / _FAST, building / _FAST)
    else:
        if (folder / _PIECES).is_file():
            options["do_lower_case"], how = _casing(folder)
        elif all((folder / each).is_file() for each in _BYTES):
            how = "vocab.json and merges.txt"
        else:
            raise ConfigError(f"encoder: {name} has none of {_FAST}, {_PIECES}, and {' with '.join(_BYTES)}")
        try:
            AutoTokenizer.from_pretrained(folder, **options).backend_tokenizer.save(str(building / _FAST))
        except Exception:  # tokenizers has no error class of its own
            raise ConfigError(f"encoder: the tokenizer of {name} cannot be read from {how}; are its files whole?") from None
    tokenizer = load_tokenizer(building)
    special_ids(tokenizer)
    if tokenizer.get_vocab_size() > config.vocab_size:
        count = tokenizer.get_vocab_size()
        raise ConfigError(f"encoder: the tokenizer of {name} has {count:,} word pieces, its weights {config.vocab_size:,}")
    return how


def _casing(folder: Path) -> tuple[bool, str]:
    """Whether text is put into lower case, and where that is known from.

    A model that does not say has an uncased vocabulary if none of its pieces has a capital; transformers would always assume one.
    """
    try:
        told = json.loads((folder / _TOLD).read_text()).get("do_lower_case") if (folder / _TOLD).is_file() else None
        pieces = (folder / _PIECES).read_text(encoding="utf-8").splitlines()
    except (ValueError, AttributeError):
        raise ConfigError(f"encoder: {_PIECES} or {_TOLD} in {folder} cannot be read; are they whole?") from None
    if isinstance(told, bool):
        return told, f"{_PIECES}, {'uncased' if told else 'cased'} as {_TOLD} says"
    cased = sum(piece != piece.lower() and not piece.startswith("[") for piece in pieces)
    why = f"since {cased:,} of its pieces have" if cased else "since none of its pieces has"
    return not cased, f"{_PIECES}, {'cased' if cased else 'uncased'}, {why} capitals"
