"""A checkpoint folder, whatever the system: named files, a list of their digests, and the digest that names the model.

`digest.json` has the SHA-256 of every file and the model's digest, made from those of the files that change an answer; a card in
README.md is listed but does not count. A folder on S3 is copied to this machine under the digest of its list.

A part is a folder below it, such as `heads/dpla`, with files and a list of its own. The list above names it with its digest,
which does not count there.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import file_digest
from engine.errors import ConfigError
from engine.storage import LocalStorage, Storage, cache_folder, is_s3, storage_for

if TYPE_CHECKING:
    from torch import Tensor

CARD = "README.md"
LIST = "digest.json"
# What a name in a list may be, wherever the list comes from: nothing that leads out of the folder.
_PART = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")


def located(path: str, shipped: Path, values: Sequence[str], of_part: Sequence[str] = ()) -> Path:
    """`shipped` is the model in this repository, everything else a folder; one on S3 is copied to this machine.

    Args:
        values: the files that count, `of_part` those of each part.
    Raises:
        ConfigError: a folder on S3 holds no checkpoint.
    """
    if is_s3(path):
        return _fetched(path.rstrip("/"), values, of_part)
    return shipped if path in ("", "shipped") else Path(os.path.expanduser(path))


def verified(folder: Path, values: Sequence[str]) -> tuple[Mapping[str, str], str]:
    """The digests of the files of a folder, all as they were written, and the folder's own.

    Raises:
        ConfigError: a file is missing or is not the one that was written.
    """
    try:
        listed = json.loads((folder / LIST).read_text())
        files = listed["files"]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(f"model.path: {folder} is no checkpoint folder (it has no readable digest.json)") from None
    for name in values:
        if not (folder / name).is_file():
            raise ConfigError(f"model.path: {folder} lacks {name}")
        if file_digest(folder / name) != files.get(name):
            raise ConfigError(f"model.path: {name} in {folder} is not the file that was trained (its digest differs)")
    if _digest(files, values) != listed.get("digest"):
        raise ConfigError(f"model.path: digest.json in {folder} does not fit its files")
    return files, listed["digest"]


def parts(folder: Path) -> Mapping[str, str]:
    """The parts that a folder lists, each with its digest."""
    return _listed((folder / LIST).read_bytes(), "parts") if (folder / LIST).is_file() else {}


def seal(folder: Path, values: Sequence[str], card: str) -> str:
    """Writes the card and the list of a folder whose other files are there; returns its digest."""
    (folder / CARD).write_text(card)
    return write_list(folder, values)


def write_list(folder: Path, values: Sequence[str]) -> str:
    """Writes the list of a folder whose files and parts are there; returns its digest."""
    there = [name for name in (*values, CARD) if (folder / name).is_file()]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in there}
    listed: dict[str, Any] = {"digest": _digest(files, values), "files": files}
    found = {str(own.parent.relative_to(folder)): json.loads(own.read_text())["digest"] for own in folder.glob(f"*/*/{LIST}")}
    write_json(folder / LIST, listed | ({"parts": found} if found else {}))
    return listed["digest"]


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


def publish_checkpoint(folder: Path, output: str) -> None:
    """Copies the files of a finished checkpoint folder to `output`, a full path.

    `digest.json` comes last, and until it is there nobody takes the rest for a checkpoint. What lies there is written over.
    """
    storage = storage_for(output)
    storage.remove(f"{output}/{LIST}")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path != folder / LIST)
    for name in (*names, LIST):
        with open(folder / name, "rb") as source, storage.writer(f"{output}/{name}") as file:
            shutil.copyfileobj(source, file, 2**20)


def write_json(path: Path, values: Any) -> None:
    """Writes plain values, the same bytes for the same values."""
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


def _fetched(path: str, values: Sequence[str], of_part: Sequence[str]) -> Path:
    """This machine's copy, under the digest of the list of its files: what is there already is right, as `verified` looks each
    time."""
    storage = storage_for(path)
    listed = storage.read(f"{path}/{LIST}")
    if listed is None:
        raise ConfigError(f"model.path: {path} is no checkpoint folder (it has no digest.json)")
    folder = cache_folder("checkpoints") / hashlib.sha256(listed).hexdigest()[:32]
    for name in _listed(listed, "parts"):
        _fetch(storage, f"{path}/{name}", storage.read(f"{path}/{name}/{LIST}"), folder / name, of_part)
    _fetch(storage, path, listed, folder, values)
    return folder


def _fetch(storage: Storage, path: str, listed: bytes | None, folder: Path, values: Sequence[str]) -> None:
    if listed is None:
        raise ConfigError(f"model.path: {path} lacks {LIST}")
    local, wanted = LocalStorage(), _listed(listed, "files")
    for name in (*values, CARD):
        target = folder / name
        if name in wanted and not (target.is_file() and file_digest(target) == wanted[name]):
            data = storage.read(f"{path}/{name}")
            if data is None:
                raise ConfigError(f"model.path: {path} lacks {name}")
            with local.writer(str(target)) as file:
                file.write(data)
    local.create(str(folder / LIST), listed)


def _listed(data: bytes, what: str) -> Mapping[str, str]:
    """Names and digests in a list: its `files`, or its `parts`, of which there may be none."""
    try:
        values = json.loads(data)
        found = values["files"] if what == "files" else values.get("parts", {})
        found = {str(name): str(digest) for name, digest in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError("model.path: it is no checkpoint folder (its digest.json is not readable)") from None
    if what == "parts" and not all(_PART.fullmatch(name) for name in found):
        raise ConfigError("model.path: its digest.json names a part that cannot be one")
    return found


def _digest(files: Mapping[str, str], values: Sequence[str]) -> str:
    named = "".join(f"{name}\0{files[name]}\n" for name in values)
    return hashlib.sha256(named.encode()).hexdigest()
