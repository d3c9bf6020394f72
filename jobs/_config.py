"""The keys of every job that runs a system, and how they become the engine's settings."""

import os
from dataclasses import dataclass, fields
from typing import Any

from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.machine import memory, processors
from engine.pipeline.config import GIBI, ClusterConfig
from engine.records import IMAGES, TEXT
from engine.sources import FORMATS, InputConfig


@dataclass(frozen=True)
class Input(InputConfig):
    text: str = key(InputConfig.text, "Column with the text of the report. Not used for text files.")
    format: str | None = key(
        None,
        "Format of all files; null decides by each file's ending. jsonl also reads a folder's .json files.",
        choices=FORMATS[TEXT],
    )
    max_bytes: int = key(4 << 20, "A report with more bytes than this fails as too_large.", low=1)


@dataclass(frozen=True)
class ImageInput(InputConfig):
    path: str = key(
        MISSING,
        "File, folder (with everything below it) or glob: image files, or tables that hold images or name their files.",
        path=True,
    )
    id: str | None = key(
        None,
        "Column with the studies' ids, which must be unique. Without it the id is the study's, else file and position, and for "
        "image files the file's name.",
    )
    keep: tuple[str, ...] = key(
        (),
        "Columns to pass through to the result, such as [patient_id,view]; also those of folders named year=2024. Of image files "
        "values of their DICOM headers, such as [PatientID,ViewPosition].",
    )
    format: str | None = key(
        None,
        "Format of all files; null decides by each file's ending. jsonl also reads a folder's .json files.",
        choices=FORMATS[IMAGES],
    )
    encoding: str = key(InputConfig.encoding, "Encoding of CSV and JSONL, for example cp1252 or latin-1.")
    max_bytes: int = key(256 << 20, "A study fails as too_large if a file of it has more bytes than this.", low=1)
    image: str = key(InputConfig.image, "Column of a table with paths of image files, or with the files' bytes.")
    study: str | None = key(
        None, "Column of a table of paths whose equal values make images one study. Without it each row is a study."
    )
    root: str | None = key(None, "Folder that paths in a table begin in; null is the table's own.", path=True)


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the tables: a new one, or that of the run to continue.", path=True)
    memory_gb: float = key(1.0, "Memory for sorting when the tables are written, in GiB.", low=0.0625)


@dataclass
class Model:
    system: str = key(MISSING, "The package of the system; model=<name> sets it.")
    path: str = key("shipped", "Checkpoint folder, as jobs.train writes it; 'shipped' is the included model.", path=True)


@dataclass(frozen=True)
class Cluster(ClusterConfig):
    actors: int | None = key(
        None,
        "Processes that hold the model, about 1.3 GiB each; with several GPUs, give one for each GPU. null takes "
        "one process if there are GPUs or if RAY_ADDRESS or cluster.threads is set, otherwise one for each core "
        "of this machine, as far as memory allows. Must be given with cluster.address.",
        low=1,
    )
    batch_tokens: int = key(4096, "Tokens in one forward pass, padding included.", low=128)
    batch_images: int | None = key(
        None, "Images in one forward pass; null chooses by their size and by whether there is a GPU.", low=1
    )
    shard_kb: int | None = key(None, "Text or images of one shard in KiB; null chooses by the size of the input.", low=1)


def sizes_of(cluster: Cluster, output: Output) -> dict[str, int | None]:
    """The size of a shard and the memory for sorting, in bytes, as `RunConfig` names them."""
    return {
        "shard_bytes": None if cluster.shard_kb is None else cluster.shard_kb * 1024,
        "memory": int(output.memory_gb * GIBI),
    }


def runtime_of(cluster: Cluster) -> dict[str, Any]:
    """The settings of a model that change no value in a row."""
    return {
        "device": "cuda" if cluster.gpus_per_actor else "cpu",
        "threads": cluster.threads or 0,
        "batch_tokens": cluster.batch_tokens,
        "batch_images": cluster.batch_images,
    }


def cluster_of(cluster: Cluster) -> ClusterConfig:
    """The engine's settings of a cluster.

    Raises:
        ConfigError: only the user can know how many actors a running cluster has room for.
    """
    values = {each.name: getattr(cluster, each.name) for each in fields(ClusterConfig)}
    return ClusterConfig(**{**values, "actors": cluster.actors or _actors(cluster)})


def _actors(cluster: Cluster) -> int:
    """Many actors of one thread keep the cores busier than one of many threads, which waits for its slowest (measured)."""
    if cluster.address:
        raise ConfigError(
            "cluster.actors: on a running cluster give their number: one for each GPU, or some fewer than the cores of all nodes"
        )
    if cluster.gpus_per_actor or cluster.threads or os.environ.get("RAY_ADDRESS"):
        return 1
    return max(1, min(processors(), memory() // (3 * GIBI)))
