"""What has been published: manifests, the receipts that they used up, and the last steps that a killed driver may have left."""

import json
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import ConfigError
from engine.pipeline.commit import Receipt
from engine.pipeline.layout import Layout, shard_of
from engine.storage import Storage

Manifest = dict[str, Any]


def manifests(storage: Storage, layout: Layout) -> list[Manifest]:
    """Every generation's manifest, in order."""
    result: list[Manifest] = []
    while (data := storage.read(path := layout.manifest(len(result) + 1))) is not None:
        try:
            manifest = json.loads(data)
            manifest["files"], manifest["stage"], manifest["rows"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path} is damaged; restore it, or name a new output folder") from None
        result.append(manifest)
    return result


def stage_of(storage: Storage, layout: Layout, generation: int) -> str | None:
    """The staging folder that the manifest of a generation names; None if there is no such manifest."""
    stages = [manifest["stage"] for manifest in manifests(storage, layout)]
    return stages[generation - 1] if len(stages) >= generation else None


def used_receipts(storage: Storage, layout: Layout, published_manifests: Sequence[Manifest]) -> dict[str, Receipt]:
    """Shard -> receipt of everything published."""
    result: dict[str, Receipt] = {}
    for manifest in published_manifests:
        # After a driver died right behind the manifest, they still lie beside the staged tables, until another one moves them.
        path = layout.used_receipts(manifest["generation"])
        places = (path, layout.staged_receipts(manifest["stage"]), path)
        data = next((data for place in places if (data := storage.read(place)) is not None), None)
        if data is None:
            raise ConfigError(f"{path} is missing; restore it, or name a new output folder")
        result |= {receipt["shard"]: receipt for receipt in map(json.loads, data.splitlines())}
    return result


def settle(storage: Storage, layout: Layout, manifest: Manifest) -> None:
    """Gives staged files their final names; any driver may do it again.

    Raises:
        ConfigError: a published file is gone.
    """
    folder = posixpath.join(layout.staging, manifest["stage"])
    table = layout.table(manifest["table"])
    pairs = [(posixpath.join(folder, file["name"]), posixpath.join(table, file["name"])) for file in manifest["files"]]
    pairs.append((layout.staged_receipts(manifest["stage"]), layout.used_receipts(manifest["generation"])))
    for source, target in pairs:
        if storage.stat(target) is None and not storage.link(source, target):
            raise ConfigError(f"{target} is missing, though it was published; restore it, or name a new output folder")


def clean(storage: Storage, layout: Layout, done: Iterable[str], generation: int) -> None:
    """Removes the rows, receipts and attempts of published shards and the staging folders of generations up to this one. Also the
    signs of life, which a working driver writes again."""
    names = set(done)
    # Receipts first: a receipt without its rows would count as missing, rows without a receipt are only waste.
    for folder in (layout.receipts, layout.shards, layout.attempts):
        storage.remove_all(entry.path for entry in list(storage.list(folder)) if shard_of(entry.path) in names)
    storage.remove_all(entry.path for entry in list(storage.list(layout.drivers)))
    stages = {posixpath.relpath(entry.path, layout.staging).split("/")[0] for entry in storage.list(layout.staging)}
    for stage in stages:
        if int(stage[:4]) <= generation:
            storage.remove_folder(posixpath.join(layout.staging, stage))
