"""The folder with which the product is checked on another machine: `gpu_check.py` and all that it reads.

gpu_check.py        the check, which needs nothing but this folder
engine/             the product's core, without models and without the rooms that need Ray
manifest.json       the systems with their packages and the file with their records, and for each row the answers that a slightly
                    other probability would change
texts.<xx>.parquet  ids and texts in a language, all synthetic
images.parquet      ids and image files, all synthetic
encoder_<n>/        an encoder without its pooler: fp16 weights, packed; words that no text has are set to zero
<system>/           the shipped checkpoint of a system, on that encoder
<system>.parquet    a processor's answers in fp32
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

import pyarrow as pa
import pyarrow.parquet as pq

from engine.benchmarks import gpu_check
from engine.benchmarks.corpus import LONG, made_up, made_up_in
from engine.benchmarks.gpu_check import MANIFEST, TOLERANCE, Payload, source
from engine.encoders import encoder_folder, file_digest
from engine.errors import ConfigError
from engine.models import checkpoint
from engine.models.base import ModelSpec, System, load, module_of
from engine.models.checkpoint import CONFIG, MODEL, TOKENIZER
from engine.models.options import reads_of, without_evidence
from engine.models.run import prepare
from engine.records import IMAGES

if TYPE_CHECKING:
    import torch

ENGINE = Path(__file__).resolve().parents[1]
# Rooms that the core does not need, and the models, which are copied separately.
_LEFT_OUT = ("pipeline", "training", "benchmarks", "studies", "serving", "shipped", "__pycache__")
_WORDS = 120
# Images for each system that reads them; they take more room than texts.
_IMAGES, _IMAGE_FILE = 64, "images.parquet"


def shipping(systems: Mapping[str, str]) -> dict[str, str]:
    """Those of some systems that ship a model; the others cannot be checked."""
    return {name: system for name, system in systems.items() if checkpoint.shipped(system).is_dir()}


def write(folder: Path, systems: Mapping[str, str], texts: int, batches: Mapping[str, int]) -> None:
    """Writes the folder.

    Args:
        systems: the packages of the systems by their names. texts: the number of texts in each language that a system reads.
        batches: tokens and images in one forward pass on a GPU, as `ModelSpec.runtime` has them.
    Raises:
        ConfigError: the folder is not empty, a system ships no model, or one of a language in which no texts are made up.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"output.path: {folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ENGINE, folder / "engine", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    shutil.copyfile(gpu_check.__file__, folder / "gpu_check.py")
    files = {name: records_file(system) for name, system in systems.items()}
    named: dict[str, dict[str, Payload]] = {}
    for file in sorted(set(files.values())):
        table = _records(file, texts)
        pq.write_table(table, folder / file, compression="zstd")
        named[file] = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    used = {name: system for system in systems.values() if (name := _encoder(system)) is not None}
    encoders = {name: f"encoder_{n}" for n, name in enumerate(used)}
    for name, place in encoders.items():
        writer = _write_image_encoder if reads_of(used[name]) == IMAGES else _write_encoder
        writer(name, folder / place)
    for name, system in systems.items():
        _write_model(folder, name, system, encoders)
    # The models name their encoder by its path in this folder.
    with contextlib.chdir(folder):
        word_ids: dict[str, set[int]] = {place: set() for place in encoders.values()}
        unsure = {name: _write_answers(name, system, named[files[name]], word_ids) for name, system in systems.items()}
    for place, ids in word_ids.items():
        _pack(folder / place / MODEL, ids)
    for name, system in systems.items():
        shutil.rmtree(folder / name)
        _write_model(folder, name, system, encoders)
    for place in encoders.values():
        (folder / place / MODEL).unlink()
    facts = {name: {"system": system, "records": files[name], "unsure": unsure[name]} for name, system in systems.items()}
    (folder / MANIFEST).write_text(json.dumps({"systems": facts, "batches": batches}, indent=1))


def records_file(system: str) -> str:
    """The name of the file with the records that a system reads."""
    return _IMAGE_FILE if reads_of(system) == IMAGES else f"texts.{language_of(system)}.parquet"


def _records(file: str, texts: int) -> pa.Table:
    """The ids and the texts or images of a file."""
    if file == _IMAGE_FILE:
        return made_up(IMAGES, min(texts, _IMAGES), LONG)
    return made_up_in(file.split(".")[1], texts, _WORDS)


def language_of(system: str) -> str:
    """The language of the texts that a system's shipped checkpoint reads."""
    return checkpoint.read("shipped", system).config.get("language", "en")


def _encoder(system: str) -> str | None:
    """The name of the encoder of a system's shipped checkpoint, if that encoder has files."""
    name = checkpoint.read("shipped", system).config.get(_key(system))
    return None if name is None or name.startswith("tiny:") else name


def _key(system: str) -> str:
    """What a system's config calls its encoder."""
    return "image" if reads_of(system) == IMAGES else "encoder"


def _write_image_encoder(name: str, folder: Path) -> None:
    import torch

    from engine.vision.encoders import load_image_encoder

    load_image_encoder(name, torch.float16).model.save_pretrained(folder)


def _write_encoder(name: str, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    source = encoder_folder(name)
    folder.mkdir()
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(source / name, folder / name)
    weights = {name: value for name, value in load_file(source / MODEL).items() if not name.startswith("pooler.")}
    half = {name: value.to(torch.float16) if value.is_floating_point() else value for name, value in weights.items()}
    save_file(half, folder / MODEL)


def _write_model(folder: Path, name: str, system: str, encoders: Mapping[str, str]) -> None:
    """Writes a system's shipped checkpoint, with the folder's copy of its encoder."""
    whole = checkpoint.read("shipped", system)
    config, key = whole.values(CONFIG), _key(system)
    place = encoders.get(config.get(key))
    if place is not None:
        config |= {key: f"path:{place}", f"{key}_digest": file_digest(folder / place / MODEL)}
    card = f"The shipped model of {system}, for a check of a GPU.\n"
    checkpoint.write_revision(str(folder / name), whole.folder, {CONFIG: config}, card)


def _write_answers(name: str, package: str, records: Mapping[str, Payload], word_ids: Mapping[str, set[int]]) -> dict[str, list]:
    """Writes a system's rows for the records; returns the unsure answers by record, and adds the words that it looks up."""
    system = load(without_evidence(ModelSpec(package, name, {"precision": "fp32"})))
    meta, prepared = prepare(system, source(system.reads, records))
    ids = dict(zip(meta["row"].to_pylist(), meta["record_id"].to_pylist(), strict=True))
    place = getattr(system.config, _key(package), "").removeprefix("path:")
    with _recorded(system, word_ids.get(place, set())):
        rows = system.run(prepared)
        pq.write_table(rows.append_column("record_id", [[ids[row] for row in rows["row"].to_pylist()]]), f"{name}.parquet")
        unsure_of: Any = getattr(module_of(package, "gpu_check"), "unsure", None)
        unsure = unsure_of(system, prepared, TOLERANCE) if unsure_of is not None else {}
    return {ids[row]: keys for row, keys in unsure.items() if keys}


@contextmanager
def _recorded(system: System, ids: set[int]) -> Iterator[None]:
    """Adds the ids that are looked up in an encoder's embeddings to `ids`; images have none."""
    if system.reads == IMAGES:
        yield
        return

    def add(module: "torch.nn.Module", inputs: tuple["torch.Tensor", ...]) -> None:
        ids.update(inputs[0].unique().tolist())

    hook = system.network.encoder.get_input_embeddings().register_forward_pre_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _pack(weights: Path, ids: set[int]) -> None:
    """Packs the weights of an encoder; where `ids` of words are looked up, the other words are set to zero and take no room."""
    import torch
    from safetensors.torch import load_file, save_file

    if ids:
        tensors = load_file(weights)
        (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
        unused = torch.ones(len(tensors[name]), dtype=torch.bool)
        unused[sorted(ids)] = False
        tensors[name][unused] = 0
        os.unlink(weights)
        save_file(tensors, weights)
    with open(weights, "rb") as file, gzip.open(f"{weights}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(file, packed, 2**20)
