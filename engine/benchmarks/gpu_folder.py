"""The folder with which the product is checked on another machine: what `gpu_check.py` reads, and that script itself.

gpu_check.py        the check; starts with nothing but this folder
engine/             the product's core, without what needs Ray and without models
manifest.json       the systems, each with its package, and what of each row a slightly other probability would change
texts.parquet       ids and texts, all made up
encoder_<n>/        an encoder without its pooler: weights in fp16, packed, the words that no text has set to zero
<system>/           the checkpoint that comes along with a system, on that encoder
<system>.parquet    what a processor answers in fp32
"""

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from engine.benchmarks import gpu_check
from engine.benchmarks.corpus import made_up
from engine.benchmarks.gpu_check import MANIFEST, TEXTS, TOLERANCE
from engine.encoders import encoder_folder, file_digest
from engine.errors import ConfigError
from engine.models import checkpoint
from engine.models.base import ModelSpec, System, load, module_of
from engine.models.checkpoint import CONFIG, MODEL, TOKENIZER
from engine.models.options import without_evidence
from engine.models.run import prepare, records_of

if TYPE_CHECKING:
    import torch

ENGINE = Path(__file__).resolve().parents[1]
# What the core does without, and the models, which are copied apart.
_LEFT_OUT = ("pipeline", "training", "benchmarks", "studies", "serving", "shipped", "__pycache__")
_WORDS = 120


def write(folder: Path, systems: Mapping[str, str], texts: int, batch_tokens: int) -> None:
    """Writes the folder.

    Args:
        systems: the packages of the systems by their names. batch_tokens: what a GPU is given at once.
    Raises:
        ConfigError: there is something already, or a system has no model that comes along.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"output.path: {folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ENGINE, folder / "engine", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    shutil.copyfile(gpu_check.__file__, folder / "gpu_check.py")
    reports = made_up(texts, _WORDS)
    pq.write_table(reports, folder / TEXTS, compression="zstd")
    encoders = {name: f"encoder_{n}" for n, name in enumerate(dict.fromkeys(filter(None, map(_encoder, systems.values()))))}
    for name, place in encoders.items():
        _write_encoder(encoder_folder(name), folder / place)
    for name, system in systems.items():
        _write_model(folder, name, system, encoders)
    named = dict(zip(reports["record_id"].to_pylist(), reports["text"].to_pylist(), strict=True))
    # The models name their encoder by its place in this folder.
    with contextlib.chdir(folder):
        looked_up: dict[str, set[int]] = {place: set() for place in encoders.values()}
        unsure = {name: _answers(name, system, named, looked_up) for name, system in systems.items()}
    for place, ids in looked_up.items():
        _pack(folder / place / MODEL, ids)
    for name, system in systems.items():
        shutil.rmtree(folder / name)
        _write_model(folder, name, system, encoders)
    for place in encoders.values():
        (folder / place / MODEL).unlink()
    told = {name: {"system": system, "unsure": unsure[name]} for name, system in systems.items()}
    (folder / MANIFEST).write_text(json.dumps({"systems": told, "batch_tokens": batch_tokens}, indent=1))


def _encoder(system: str) -> str | None:
    """The name of the encoder that a system's own checkpoint stands on, if it has files."""
    name = checkpoint.read("shipped", system).config.get("encoder")
    return None if name is None or name.startswith("tiny:") else name


def _write_encoder(source: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(source / name, folder / name)
    kept = {name: value for name, value in load_file(source / MODEL).items() if not name.startswith("pooler.")}
    half = {name: value.to(torch.float16) if value.is_floating_point() else value for name, value in kept.items()}
    save_file(half, folder / MODEL)


def _write_model(folder: Path, name: str, system: str, encoders: Mapping[str, str]) -> None:
    """The checkpoint that comes along, on the encoder as it lies in the folder."""
    whole = checkpoint.read("shipped", system)
    config = whole.values(CONFIG)
    place = encoders.get(config.get("encoder"))
    if place is not None:
        config |= {"encoder": f"path:{place}", "encoder_digest": file_digest(folder / place / MODEL)}
    card = f"The model of {system} that comes along, for a check of a GPU.\n"
    checkpoint.write_revision(str(folder / name), whole.folder, {CONFIG: config}, card)


def _answers(name: str, system: str, texts: Mapping[str, str], looked_up: Mapping[str, set[int]]) -> dict[str, list]:
    """Writes what a system answers to the texts; returns what of that is unsure, by record, and adds the words looked up."""
    spec = without_evidence(ModelSpec(system, name, {"precision": "fp32"}))
    made = load(spec)
    meta, prepared = prepare(made, records_of(texts, texts.values()))
    ids = dict(zip(meta["row"].to_pylist(), meta["record_id"].to_pylist(), strict=True))
    place = getattr(made.config, "encoder", "").removeprefix("path:")
    with _noting(made, looked_up.get(place, set())):
        rows = made.run(prepared)
        pq.write_table(rows.append_column("record_id", [[ids[row] for row in rows["row"].to_pylist()]]), f"{name}.parquet")
        own: Any = getattr(module_of(system, "gpu_check"), "unsure", None)
        unsure = own(made, prepared, TOLERANCE) if own is not None else {}
    return {ids[row]: keys for row, keys in unsure.items() if keys}


@contextmanager
def _noting(system: System, ids: set[int]) -> Iterator[None]:
    """Adds the ids that an encoder's embeddings are asked for."""

    def note(module: "torch.nn.Module", given: tuple["torch.Tensor", ...]) -> None:
        ids.update(given[0].unique().tolist())

    hook = system.network.encoder.get_input_embeddings().register_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()


def _pack(weights: Path, ids: set[int]) -> None:
    """Sets the words that nobody looks up to zero, so that they take no room in the packed file."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    unused = torch.ones(len(tensors[name]), dtype=torch.bool)
    unused[sorted(ids)] = False
    tensors[name][unused] = 0
    os.unlink(weights)
    save_file(tensors, weights)
    with open(weights, "rb") as file, gzip.open(f"{weights}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(file, packed, 2**20)
