"""What has been published: manifests, the receipts they used up, and the last steps that a killed driver may have left."""

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
    found: list[Manifest] = []
    while (data := storage.read(layout.manifest(len(found) + 1))) is not None:
        try:
            manifest = json.loads(data)
            manifest["files"], manifest["stage"], manifest["rows"]
        except (ValueError, KeyError, TypeError):
            path = layout.manifest(len(found) + 1)
            raise ConfigError(f"{path} is damaged; restore it, or name a new output folder") from None
        found.append(manifest)
    return found


def stage_of(storage: Storage, layout: Layout, generation: int) -> str | None:
    """The staging folder that the manifest of a generation names; None if there is no such manifest."""
    known = manifests(storage, layout)
    return known[generation - 1]["stage"] if len(known) >= generation else None


def folded(storage: Storage, layout: Layout, known: Sequence[Manifest]) -> dict[str, Receipt]:
    """Shard -> receipt of everything published."""
    found: dict[str, Receipt] = {}
    for manifest in known:
        # Where the driver died right after the manifest, they still lie beside the staged tables.
        data = storage.read(layout.folded(manifest["generation"])) or storage.read(staged_receipts(layout, manifest["stage"]))
        if data is None:
            data = storage.read(layout.folded(manifest["generation"]))
        if data is None:
            raise ConfigError(f"{layout.folded(manifest['generation'])} is missing; restore it, or name a new output folder")
        for line in data.splitlines():
            receipt = json.loads(line)
            found[receipt["shard"]] = receipt
    return found


def settle(storage: Storage, layout: Layout, manifest: Manifest) -> None:
    """Gives staged files their final names; harmless to do again, by whomever.

    Raises:
        ConfigError: a published file is gone.
    """
    folder = posixpath.join(layout.staging, manifest["stage"])
    table = layout.table(manifest["table"])
    pairs = [(posixpath.join(folder, file["name"]), posixpath.join(table, file["name"])) for file in manifest["files"]]
    pairs.append((staged_receipts(layout, manifest["stage"]), layout.folded(manifest["generation"])))
    for source, target in pairs:
        if storage.stat(target) is None and not storage.link(source, target):
            raise ConfigError(f"{target} is missing, though it was published; restore it, or name a new output folder")


def clean(storage: Storage, layout: Layout, done: Iterable[str], generation: int) -> None:
    """Removes what published shards have left: rows, receipts, attempts, and the staging of generations up to this one; and the
    signs of life, which a driver that is still at work gives again."""
    names = set(done)
    # Receipts first: one without its rows would be an absent one, rows without a receipt are only waste.
    for folder in (layout.receipts, layout.shards, layout.attempts):
        storage.remove_all(entry.path for entry in list(storage.list(folder)) if shard_of(entry.path) in names)
    storage.remove_all(entry.path for entry in list(storage.list(layout.drivers)))
    stages = {posixpath.relpath(entry.path, layout.staging).split("/")[0] for entry in storage.list(layout.staging)}
    for stage in stages:
        if int(stage[:4]) <= generation:
            storage.remove_folder(posixpath.join(layout.staging, stage))


def staged_receipts(layout: Layout, stage: str) -> str:
    return posixpath.join(layout.staging, stage, "receipts.jsonl")
