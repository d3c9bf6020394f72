"""What a user may set for coding reports, key by key, and how it becomes the engine's own settings."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.machine import memory, processors
from engine.models.site_classifier.config import EVIDENCE_METHODS, HEADS
from engine.models.site_classifier.reasons import RULES
from engine.sources.base import DOUBLE, FORMATS, QUOTING, SCOPES
from jobs._keys import MISSING, key, section
from jobs._ray_job import check_paths
from jobs._storage import Storage, s3_of

if TYPE_CHECKING:
    from engine.pipeline import ClusterConfig, RunConfig
    from engine.sources import InputConfig

GIBI, KIBI = 1024**3, 1024


@dataclass
class Input:
    path: str = key(MISSING, "File, folder (with everything below it) or glob with the reports.", path=True)
    id: str | None = key(
        None,
        "Column with the reports' ids, which must be unique. Without it an id is made from file and position; "
        "for text files it is the file's name.",
    )
    text: str = key("text", "Column with the text of the report. Not used for text files.")
    keep: list[str] = key(
        [], "Columns to pass through to the result, such as [patient_id,hospital]; also those of folders named year=2024."
    )
    format: str | None = key(
        None, "Format of all files; null goes by each file's ending. jsonl also takes a folder's .json files.", choices=FORMATS
    )
    encoding: str = key("utf-8", "Encoding of CSV, JSONL and text files, for example cp1252 or latin-1.")
    delimiter: str | None = key(None, "What separates CSV columns; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(
        DOUBLE,
        "Quotes in CSV: double is fields in double quotes, in which a quote is doubled; none is quotes like any other character.",
        choices=QUOTING,
    )
    escape: str | None = key(
        None, "Character that makes a quote, delimiter or line end behind it part of a CSV column, such as \\."
    )
    id_scope: str = key(
        "input",
        "Where ids are unique; 'file' puts the file's name in front of each, for files that number alike.",
        choices=SCOPES,
    )
    max_bytes: int = key(4_194_304, "A report with more bytes than this fails as too_large.", low=1)


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the tables: a new one, or that of the run to continue.", path=True)
    memory_gb: float = key(1.0, "Memory for sorting when the tables are written, in GiB.", low=0.0625)


@dataclass
class Model:
    system: str = key("engine.models.site_classifier", "The package of the coding system.")
    path: str = key("shipped", "Checkpoint folder, as jobs.train writes it; 'shipped' is the model that comes along.", path=True)
    head: str | None = key(
        None, "Head of the checkpoint, of those that jobs.train_head gave it; null is the checkpoint's own.", choices=HEADS
    )


@dataclass
class Text:
    max_tokens: int = key(
        16_384, "Tokens read of a report. What lies beyond is counted in truncated_chars and sends the report to review.", low=16
    )
    pair: str | None = key(None, "Column with the second text, for a model that reads pairs; name it in input.keep too.")


@dataclass
class Explain:
    method: str = key(
        "default",
        "How evidence is found: default is what the checkpoint names, none is no evidence.",
        choices=("default", "none", *EVIDENCE_METHODS),
    )
    spans: int = key(5, "Most evidence spans for each task.", low=1, high=50)
    checks_fraction: float = key(
        0.02, "Share of reports, chosen by id, whose evidence is checked against erasing random words.", low=0.0, high=1.0
    )


@dataclass
class Decision:
    tasks: list[str] = key(["site"], "Tasks that must all be sure for a report to be coded without review.")
    thresholds: dict[str, float] = key(
        {}, "Probability from which a task is sure, such as {site: 0.97}; without one the checkpoint's own.", low=0.0, high=1.0
    )
    min_support: int = key(10, "A code with fewer training reports than this always goes to review.", low=0)
    rules: list[str] = key(
        list(RULES), "Rules that send a report to review whatever the model says; they read English only.", choices=RULES
    )


@dataclass
class Cluster:
    address: str | None = key(None, "A running Ray cluster, 'auto' or host:port; null starts Ray here and stops it afterwards.")
    actors: int | None = key(
        None,
        "Processes that hold the model, some 1.3 GiB each. One for each GPU; null is one, or without GPUs and RAY_ADDRESS one "
        "for each core of this machine as far as memory goes. With cluster.address it must be given.",
        low=1,
    )
    threads: int | None = key(None, "CPU threads of each actor; null shares out this machine's cores.", low=1)
    cpus_per_actor: float = key(0.5, "CPUs that Ray books for an actor; bookkeeping only, keep some free for reading.", low=0.0)
    gpus_per_actor: float = key(0.0, "GPUs of each actor; a part of one is allowed.", low=0.0)
    readers: int = key(2, "Tasks that read and tokenize at the same time.", low=1)
    cpus_per_reader: float = key(0.25, "CPUs that Ray books for a reader.", low=0.01)
    batch_tokens: int = key(4096, "Tokens in one forward pass, padding included.", low=128)
    precision: str = key("auto", "Arithmetic of the encoder; auto goes by the hardware.", choices=("auto", "fp32", "bf16"))
    object_store_gb: float | None = key(
        None, "Memory of Ray's object store, in GiB; null is what Ray takes, or what fits into /dev/shm.", low=0.1
    )
    child_memory_gb: float = key(8.0, "Memory of the process that retries a shard lost twice, in GiB.", low=0.25)
    max_attempts: int = key(10, "Tries of one shard before the run gives up with exit code 3.", low=3)
    stall_seconds: int = key(1800, "The run gives up with exit code 3 when nothing happens for so long.", low=60)
    shard_kb: int | None = key(None, "Text of one shard in KiB; null chooses by the size of the input.", low=1)


@dataclass
class Coding:
    """The sections of every job that codes."""

    input: Input = section(Input)
    output: Output = section(Output)
    model: Model = section(Model)
    text: Text = section(Text)
    explain: Explain = section(Explain)
    decision: Decision = section(Decision)
    cluster: Cluster = section(Cluster)


@dataclass
class CodeReports(Coding):
    storage: Storage = section(Storage)
    deterministic: bool = key(False, "The same bits whatever the batches and shards: slower, each report goes alone.")
    max_failed: float = key(1.0, "Share of failed records above which a finished run ends with exit code 4.", low=0.0, high=1.0)


def run_config(config: CodeReports) -> "RunConfig":
    """The engine's settings.

    Raises:
        ConfigError: settings that cannot go together.
    """
    from engine.models.base import ModelSpec
    from engine.pipeline import RunConfig

    cluster, model = config.cluster, config.model
    check_paths({"input.path": config.input.path, "output.path": config.output.path})
    if model.path != Model.path:
        check_paths({"model.path": model.path})
    if config.text.pair is not None and config.text.pair not in config.input.keep:
        raise ConfigError(f"text.pair: name the column '{config.text.pair}' in input.keep too")
    if not _exists(model.system):
        raise ConfigError(f"model.system: there is no package '{model.system}'; the one that comes along is {Model.system}")
    return RunConfig(
        input=reading_of(config.input),
        model=ModelSpec(
            system=model.system,
            path=model.path,
            options={
                "max_tokens": config.text.max_tokens,
                "pair": config.text.pair,
                "method": config.explain.method,
                "spans": config.explain.spans,
                "checks": config.explain.checks_fraction,
                "tasks": config.decision.tasks,
                "thresholds": config.decision.thresholds,
                "min_support": config.decision.min_support,
                "rules": config.decision.rules,
                "precision": cluster.precision,
                "deterministic": config.deterministic,
                # Not named where it is the checkpoint's own, so that runs of before heads could be chosen go on.
                **({} if model.head is None else {"head": model.head}),
            },
            runtime=runtime_of(cluster),
        ),
        output=config.output.path,
        cluster=cluster_of(cluster),
        max_failed=config.max_failed,
        s3=s3_of(config.storage),
        **sizes_of(cluster, config.output),
    )


def reading_of(given: Input) -> "InputConfig":
    """The engine's settings of an input."""
    from engine.sources import InputConfig

    return InputConfig(**{**vars(given), "delimiter": delimiter_of(given.delimiter)})


def delimiter_of(given: str | None) -> str | None:
    """What separates columns of CSV; a tab may be written as `\\t`, which a shell passes on more readily."""
    return "\t" if given == "\\t" else given


def sizes_of(cluster: Cluster, output: Output) -> dict[str, int | None]:
    """The size of a shard and the memory for sorting, in bytes, as `RunConfig` names them."""
    return {
        "shard_bytes": None if cluster.shard_kb is None else cluster.shard_kb * KIBI,
        "memory": int(output.memory_gb * GIBI),
    }


def runtime_of(cluster: Cluster) -> dict[str, Any]:
    """What a model is told that changes no value in a row."""
    return {
        "device": "cuda" if cluster.gpus_per_actor else "cpu",
        "threads": cluster.threads or 0,
        "batch_tokens": cluster.batch_tokens,
    }


def cluster_of(cluster: Cluster) -> "ClusterConfig":
    """The engine's settings of a cluster.

    Raises:
        ConfigError: only the user can know how many actors a running cluster has room for.
    """
    from engine.pipeline import ClusterConfig

    return ClusterConfig(
        address=cluster.address,
        actors=cluster.actors or _actors(cluster),
        threads=cluster.threads or 0,
        cpus_per_actor=cluster.cpus_per_actor,
        gpus_per_actor=cluster.gpus_per_actor,
        readers=cluster.readers,
        cpus_per_reader=cluster.cpus_per_reader,
        object_store_memory=None if cluster.object_store_gb is None else int(cluster.object_store_gb * GIBI),
        child_memory=int(cluster.child_memory_gb * GIBI),
        max_attempts=cluster.max_attempts,
        stall_seconds=cluster.stall_seconds,
    )


def _exists(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _actors(cluster: Cluster) -> int:
    """Many actors of one thread keep the cores busier than one of many threads, which waits for its slowest (measured)."""
    if cluster.address:
        raise ConfigError(
            "cluster.actors: on a running cluster give their number: one for each GPU, or some fewer than the cores of all nodes"
        )
    if cluster.gpus_per_actor or cluster.threads or os.environ.get("RAY_ADDRESS"):
        return 1
    return max(1, min(processors(), memory() // (3 * GIBI)))
