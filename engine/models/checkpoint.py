"""A checkpoint folder: one format, one reader and one writer for every system.

config.json         architecture of the model; `system` names its package
model.safetensors   the trained tensors
tokenizer.json      the encoder's fast tokenizer; systems of images may have none
README.md           the model card
digest.json         SHA-256 of every file, and the model's digest, made from those of all files except the card
<further files>     files that the system declares
<kind>/<name>/      a part, such as a further head: config.json, model.safetensors, further files, README.md and its own
digest.json.
                    The list of the whole names it with its digest, which is not part of the model's digest; `base` in the part's
                    config.json names the files of the whole that it depends on.

A folder on S3 is copied to this machine, to a folder named by the digest of its list.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from engine.encoders import file_digest
from engine.errors import ConfigError, EngineError
from engine.storage import LocalStorage, Storage, cache_folder, full_path, is_s3, storage_for

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

CONFIG, MODEL, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
CARD, LIST = "README.md", "digest.json"
COMMON = (CONFIG, MODEL, TOKENIZER)
_SYSTEM, _BASE = "system", "base"
# The names that a list may contain, whatever its origin: none leads out of the folder.
_FILE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+")
_PART = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


@dataclass(frozen=True)
class Stored:
    """A verified folder: its digest, those of its `files`, and its config.json without the system."""

    folder: Path
    digest: str
    files: Mapping[str, str]
    config: Mapping[str, Any]

    def values(self, name: str) -> Any:
        """The plain values of one of its JSON files."""
        return json.loads((self.folder / name).read_text())


def shipped(system: str) -> Path:
    """The path of the checkpoint in a system's package; it need not exist."""
    spec = importlib.util.find_spec(system)
    if spec is None or spec.origin is None:
        raise ConfigError(f"model.system: there is no package {system}")
    return Path(spec.origin).parent / "shipped"


def read(path: str, system: str, files: Sequence[str] = (), tokenizer: bool = True) -> Stored:
    """Locates and verifies the checkpoint of a system.

    Args:
        path: a folder, local or on S3; `shipped` is the one in the system's package.
        files: those of the system beside the common ones. tokenizer: whether it has one; a system of images need not.
    Raises:
        ConfigError: there is no checkpoint, it belongs to another system, or a file has changed.
    """
    folder = _located(path, system)
    owner = _system(folder)
    if owner not in (None, system):
        raise ConfigError(f"model.system: {path} is a model of {owner} and not of {system}; set model.system={owner}")
    whole = _verified(folder, (*(COMMON if tokenizer else (CONFIG, MODEL)), *files))
    if owner is None:
        raise _without_system(folder)
    return whole


def system_of(path: str) -> str:
    """The package that a checkpoint, local or on S3, belongs to.

    Raises:
        ConfigError: the folder holds no checkpoint.
    """
    folder = _located(path, None)
    _list(folder)
    if (owner := _system(folder)) is None:
        raise _without_system(folder)
    return owner


def read_part(whole: Stored, name: str, files: Sequence[str] = (), on: Sequence[str] = ()) -> Stored:
    """One of the `parts` of a checkpoint; its digest is that of the model with this part.

    Args:
        files: those of the part beside config.json and model.safetensors. on: the files of the whole that it depends on.
    Raises:
        ConfigError: a file has changed, or the part was made for another model.
    """
    part = _verified(whole.folder / name, (CONFIG, MODEL, *files))
    config = dict(part.config)
    if part.digest != parts(whole.folder)[name] or config.pop(_BASE, None) != {file: whole.files[file] for file in on}:
        raise ConfigError(f"model.path: {name} in {whole.folder} was not made for this model")
    return Stored(part.folder, _joined(whole.digest, part.digest), part.files, config)


def parts(folder: Path) -> Mapping[str, str]:
    """The parts that a folder lists, each with its digest."""
    return _listed((folder / LIST).read_bytes(), "parts", folder)


def write(
    folder: Path,
    system: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, "Tensor"],
    tokenizer: "Path | Tokenizer | None",
    files: Mapping[str, Any],
    card: str,
) -> str:
    """Writes a checkpoint and returns its digest.

    Args:
        tokenizer: the tokenizer.json to copy, or a tokenizer; None for a system without one.
        files: the system's own files by name: plain values for JSON, or else a function that writes the file to a path, called
            after the files before it exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, {**config, _SYSTEM: system})
    save_tensors(folder / MODEL, tensors)
    if isinstance(tokenizer, Path):
        shutil.copyfile(tokenizer, folder / TOKENIZER)
    elif tokenizer is not None:
        tokenizer.save(str(folder / TOKENIZER))
    return _seal(folder, files, card, (*COMMON, *files))


def write_part(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, "Tensor"],
    files: Mapping[str, Any],
    card: str,
    on: Sequence[str],
) -> str:
    """Writes a part into an existing checkpoint folder, as `write` does; returns the digest of the model with this part."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    whole = _list(folder)
    write_json(place / CONFIG, {**config, _BASE: {file: whole[file] for file in on}})
    save_tensors(place / MODEL, tensors)
    part = _seal(place, files, card, (CONFIG, MODEL, *files))
    return _joined(_write_list(folder, whole), part)


def copy(base: Path, folder: Path, card: str | None = None) -> None:
    """Copies a checkpoint with all its parts to a folder on this machine, with a new model card if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    files = _list(base)
    for name in files:
        shutil.copyfile(base / name, folder / name)
    for name in parts(base):
        shutil.copytree(base / name, folder / name, dirs_exist_ok=True)
    if card is not None:
        (folder / CARD).write_text(card)
    _write_list(folder, files)


def revise(folder: Path, files: Mapping[str, Any], card: str, part: str | None = None) -> str:
    """Rewrites some files of a checkpoint on this machine, as `write` does, and its card; returns the new digest.

    Args:
        part: the part that files and card belong to; None for the whole.
    """
    place = folder if part is None else folder / part
    digest = _seal(place, files, card, (*_list(place), *files))
    return digest if part is None else _joined(_write_list(folder, _list(folder)), digest)


def check_new(output: str) -> None:
    """ConfigError if the folder of a revision already exists."""
    if storage_for(output).is_folder(full_path(output)) if is_s3(output) else os.path.lexists(output):
        raise _exists(output)


def write_revision(output: str, base: Path, files: Mapping[str, Any], card: str, part: str | None = None) -> str:
    """Writes a checkpoint with some of its files replaced to a new folder, local or on S3; returns the new digest.

    Everything else, including parts, is copied byte for byte, and the base stays. The folder appears whole or not at all.

    Args:
        files: the files to replace, as in `write`. part: the part that files and card belong to; None for the whole.
    Raises:
        ConfigError: the folder exists, or cannot be written.
    """
    check_new(output)
    if is_s3(output):
        with TemporaryDirectory(prefix="marginalia-") as building:
            copy(base, Path(building))
            digest = revise(Path(building), files, card, part)
            _publish_new(Path(building), full_path(output), "/".join(filter(None, (part, next(iter(files))))))
        return digest
    folder = Path(output)
    building = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    try:
        building.mkdir(parents=True)
        copy(base, building)
        digest = revise(building, files, card, part)
        os.rename(building, folder)
    except OSError as error:
        raise ConfigError(f"output.path: cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return digest


def publish_checkpoint(folder: Path, output: str) -> None:
    """Copies the files of a finished checkpoint folder to `output`, a full path.

    `digest.json` comes last; without it the rest is no checkpoint. Existing files are overwritten.
    """
    storage = storage_for(output)
    storage.remove(f"{output}/{LIST}")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path != folder / LIST)
    for name in (*names, LIST):
        with open(folder / name, "rb") as source, storage.writer(f"{output}/{name}") as file:
            shutil.copyfileobj(source, file, 2**20)


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Writes trained tensors, an adapter's in fp16 and all others in fp32."""
    import torch
    from safetensors.torch import save_file

    small = {
        name: value.detach().cpu().to(torch.float16 if name.endswith((".down", ".up")) else torch.float32).contiguous()
        for name, value in tensors.items()
    }
    save_file(small, path)
    path.chmod(0o644)


def fill(network: "Network", tensors: Mapping[str, "Tensor"], apart: str = "encoder.") -> "Network":
    """Loads trained tensors into a network and prepares it for inference.

    Args:
        apart: the prefix of tensors that the network already has.
    Raises:
        ConfigError: a tensor is missing.
    """
    missing = [name for name in network.state_dict() if not name.startswith(apart) and name not in tensors]
    if missing:
        raise ConfigError(f"model.path: {MODEL} lacks {', '.join(missing[:3])}")
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def write_json(path: Path, values: Any) -> None:
    """Writes plain values, the same bytes for equal values; a list of numbers is one line."""
    path.write_text(_text(values, "\n") + "\n")


def _text(values: Any, line: str) -> str:
    below = f"{line} "
    if isinstance(values, Mapping) and values:
        items = (f"{json.dumps(str(name))}: {_text(value, below)}" for name, value in sorted(values.items()))
        return f"{{{below}{f',{below}'.join(items)}{line}}}"
    if isinstance(values, list | tuple) and not all(isinstance(value, int | float) for value in values):
        return f"[{below}{f',{below}'.join(_text(value, below) for value in values)}{line}]"
    return json.dumps(values)


def _located(path: str, system: str | None) -> Path:
    if is_s3(path):
        return _fetched(path.rstrip("/"))
    return shipped(system) if system is not None and path in ("", "shipped") else Path(os.path.expanduser(path))


def _system(folder: Path) -> str | None:
    """The system that a config.json names, None if it names none."""
    try:
        return json.loads((folder / CONFIG).read_text())[_SYSTEM]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _verified(folder: Path, names: Sequence[str]) -> Stored:
    """A folder whose files, including those of `names`, have not changed.

    Raises:
        ConfigError: a file is missing or has changed.
    """
    files = _list(folder)
    for name in dict.fromkeys((*names, *(name for name in files if name != CARD))):
        if not (folder / name).is_file():
            raise ConfigError(f"model.path: {folder} lacks {name}")
        if file_digest(folder / name) != files.get(name):
            raise ConfigError(f"model.path: {name} in {folder} is not the file that was trained (its digest differs)")
    digest = _digest(files)
    if json.loads((folder / LIST).read_text()).get("digest") != digest:
        raise ConfigError(f"model.path: digest.json in {folder} does not match its files")
    config = json.loads((folder / CONFIG).read_text())
    return Stored(folder, digest, files, {name: value for name, value in config.items() if name != _SYSTEM})


def _list(folder: Path) -> Mapping[str, str]:
    """The files that a folder lists, with their digests."""
    try:
        data = (folder / LIST).read_bytes()
    except OSError:
        raise ConfigError(f"model.path: {folder} is no checkpoint folder (it has no readable {LIST})") from None
    return _listed(data, "files", folder)


def _seal(folder: Path, files: Mapping[str, Any], card: str, names: Sequence[str]) -> str:
    """Writes files, card and list of a folder whose other files exist; returns its digest."""
    for name, values in files.items():
        values(folder / name) if callable(values) else write_json(folder / name, values)
    (folder / CARD).write_text(card)
    return _write_list(folder, names)


def _write_list(folder: Path, names: Sequence[str]) -> str:
    """Writes the list of a folder whose files and parts exist; returns its digest."""
    existing = [name for name in dict.fromkeys((*names, CARD)) if (folder / name).is_file()]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in existing}
    parts = {str(path.parent.relative_to(folder)): json.loads(path.read_text())["digest"] for path in folder.glob(f"*/*/{LIST}")}
    write_json(folder / LIST, {"digest": _digest(files), "files": files} | ({"parts": parts} if parts else {}))
    return _digest(files)


def _publish_new(folder: Path, output: str, first: str) -> None:
    """Publishes to a new name on S3: one of several callers wins, and one that fails leaves nothing."""
    storage = storage_for(output)
    if not storage.create(f"{output}/{first}", (folder / first).read_bytes()):
        raise _exists(output)
    try:
        publish_checkpoint(folder, output)
    except BaseException:
        with suppress(EngineError):
            storage.remove_folder(output)
        raise


def _without_system(folder: Path) -> ConfigError:
    return ConfigError(f"model.path: the config.json in {folder} does not say which system the model belongs to")


def _exists(output: str) -> ConfigError:
    return ConfigError(f"output.path: {output} exists; a revision is written to a new folder")


def _fetched(path: str) -> Path:
    """This machine's copy, in a folder named by the digest of its list. Existing files need no check here: `_verified` checks."""
    storage = storage_for(path)
    listed = storage.read(f"{path}/{LIST}")
    if listed is None:
        raise ConfigError(f"model.path: {path} is no checkpoint folder (it has no {LIST})")
    folder = cache_folder("checkpoints") / hashlib.sha256(listed).hexdigest()[:32]
    for name in _listed(listed, "parts", path):
        _fetch(storage, f"{path}/{name}", storage.read(f"{path}/{name}/{LIST}"), folder / name)
    _fetch(storage, path, listed, folder)
    return folder


def _fetch(storage: Storage, path: str, listed: bytes | None, folder: Path) -> None:
    if listed is None:
        raise ConfigError(f"model.path: {path} lacks {LIST}")
    local = LocalStorage()
    for name, wanted in _listed(listed, "files", path).items():
        target = folder / name
        if not (target.is_file() and file_digest(target) == wanted):
            data = storage.read(f"{path}/{name}")
            if data is None:
                raise ConfigError(f"model.path: {path} lacks {name}")
            with local.writer(str(target)) as file:
                file.write(data)
    local.create(str(folder / LIST), listed)


def _listed(data: bytes, what: str, folder: Path | str) -> Mapping[str, str]:
    """Names and digests in the list of a folder: its `files`, or its `parts`, which are optional."""
    try:
        values = json.loads(data)
        entries = values["files"] if what == "files" else values.get("parts", {})
        entries = {str(name): str(digest) for name, digest in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"model.path: {folder} is no checkpoint folder (it has no readable {LIST})") from None
    if not all((_FILE if what == "files" else _PART).fullmatch(name) for name in entries):
        raise ConfigError(f"model.path: {LIST} in {folder} contains an invalid {what[:-1]} name")
    return entries


def _digest(files: Mapping[str, str]) -> str:
    named = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()) if name != CARD)
    return hashlib.sha256(named.encode()).hexdigest()


def _joined(whole: str, part: str) -> str:
    """The digest of a model with a part."""
    return hashlib.sha256(f"{whole}\0{part}".encode()).hexdigest()
