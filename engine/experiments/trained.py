"""A small site classifier of an experiment's own, trained by the code that trains any other, and the evidence it shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError, ContractError
from engine.explain.settings import METHOD_NAMES
from engine.models.site_classifier.config import EVIDENCE_METHODS
from engine.storage import whole_file

if TYPE_CHECKING:
    from engine.models.site_classifier import SiteCoder

Span = tuple[int, int]
DEFAULT = "default"
_SYSTEM = "engine.models.site_classifier"


@dataclass(frozen=True)
class Recipe:
    """How an experiment trains its models; the names and meanings are those of `jobs.train`.

    `windows` are shown of a report and epoch. `micro_batch` is padded tokens: left to the learner it hangs on the device, and
    sums in another order make another model. `evidence_sample` reports decide which evidence method a model names as its own.
    """

    seed: int = 7
    encoder: str = "pkg:minilm"
    rank: int = 32
    window: int = 126
    windows: int = 8
    masking: float = 0.8
    epochs: float = 8.0
    batch: int = 12
    rate: float = 1e-3
    micro_batch: int = 8192
    threads: int = 0
    evidence_sample: int = 30

    def values(self) -> dict[str, Any]:
        """The settings that change a result."""
        return {name: value for name, value in asdict(self).items() if name != "threads"}


@dataclass(frozen=True)
class Shown:
    """A model's answer to one report, the spans it shows as evidence, strongest first, and the report's words [words]."""

    code: str
    spans: tuple[Span, ...]
    starts: np.ndarray
    ends: np.ndarray


def known_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The names as they came.

    Raises:
        ConfigError: one is no method.
    """
    known = (DEFAULT, *dict.fromkeys((*EVIDENCE_METHODS, *METHOD_NAMES)))
    unknown = [method for method in methods if method not in known]
    if unknown or not methods:
        raise ConfigError(f"methods: '{unknown[0] if unknown else ''}' is none of {', '.join(known)}")
    return tuple(methods)


def train(
    recipe: Recipe,
    data: Mapping[str, Any],
    folder: Path,
    command: str,
    say: Callable[[str], None],
    *,
    masking: float | None = None,
) -> dict[str, Any]:
    """Trains a checkpoint into `folder`, or goes on with it; returns the figures of its card.

    Args:
        data: fields of `engine.models.site_classifier.columns.DataConfig`. masking: in place of the recipe's own.
    """
    from engine.training.config import LoopConfig
    from engine.training.run import train_system

    masked = recipe.masking if masking is None else masking
    learn = {"windows": recipe.windows, "masking": masked, "budget": recipe.micro_batch}
    settings = {
        "data": dict(data),
        "model": {"encoder": recipe.encoder, "rank": recipe.rank, "window": recipe.window},
        "learn": learn,
        "precision": "auto",
        "seed": recipe.seed,
        "evidence_sample": recipe.evidence_sample,
    }
    loop = LoopConfig(recipe.epochs, recipe.batch, recipe.rate, seed=recipe.seed, report_every=10, watch="macro_f1")
    return train_system(_SYSTEM, settings, str(folder), loop=loop, command=command, say=say, cluster={"threads": recipe.threads})


def write_examples(file: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Labelled reports as a Parquet file that `DataConfig` can read, see `put_table`."""
    put_table(file, pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}))


def put_table(file: Path, table: pa.Table) -> None:
    """Writes a Parquet file, whole or not at all. One that is just that already stays untouched: a training goes on only from the
    very file that it began with."""
    made = pa.BufferOutputStream()
    pq.write_table(table, made)
    data = made.getvalue().to_pybytes()
    if file.is_file() and file.read_bytes() == data:
        return
    with whole_file(file) as part:
        part.write_bytes(data)


def coder(folder: Path, method: str, precision: str = "auto") -> "SiteCoder":
    """The system of a checkpoint, which explains itself by that method."""
    from engine.models.base import ModelSpec
    from engine.models.site_classifier import load

    return load(ModelSpec(_SYSTEM, str(folder), {"method": method, "checks": 0.0, "tasks": (), "precision": precision}, {}))


def method_of(folder: Path, method: str) -> str:
    """The method's own name: what `default` stands for in this checkpoint."""
    from engine.models.site_classifier.checkpoint import read_checkpoint

    return read_checkpoint(str(folder)).evidence_method if method == DEFAULT else method


def shown(folder: Path, task: str, reports: pa.Table, method: str) -> list[Shown]:
    """What the product shows of each report, in their order.

    Methods of the coder (`default` is the checkpoint's own, `none` shows no spans) give the evidence column of `codes`, others
    the selected spans of `explanations`.
    """
    evident = method in (DEFAULT, "none", *EVIDENCE_METHODS)
    system = coder(folder, method if evident else "none", "auto" if evident else "fp32")
    prepared = system.prepare(reports)
    if prepared["failure"].null_count != len(prepared):
        raise ContractError("a report of the experiment cannot be read")
    found = _evidence(system, prepared, task) if evident else _explained(system, prepared, task, method)
    words = prepared.select(["row", "word_start", "word_end"]).to_pylist()
    return [Shown(*found[word["row"]], np.array(word["word_start"]), np.array(word["word_end"])) for word in words]


def _evidence(system: "SiteCoder", prepared: pa.Table, task: str) -> dict[int, tuple[str, tuple[Span, ...]]]:
    rows = system.run(prepared).select(["row", f"{task}_code", f"{task}_evidence"]).to_pylist()
    return {row["row"]: (row[f"{task}_code"], _spans(row[f"{task}_evidence"])) for row in rows}


def _explained(system: "SiteCoder", prepared: pa.Table, task: str, method: str) -> dict[int, tuple[str, tuple[Span, ...]]]:
    from engine.explain.explain import explain
    from engine.explain.rows import target_row
    from engine.explain.settings import Settings
    from engine.models.code_explainable import reports
    from engine.models.site_classifier.attributable import SiteExplainable

    model, batch = SiteExplainable(system, task), reports(prepared)
    targets = model.predicted(batch)
    found = {}
    explanations = explain(model, batch, targets, method, Settings(tokens_per_pass=system.budget))
    for row, name, explanation, target, units in zip(
        prepared["row"].to_pylist(), batch.record_ids, explanations, model.named(batch, targets), batch.words, strict=True
    ):
        spans = target_row(name, explanation, max_units=1, spoken=units.spoken)["selected_spans"]
        found[row] = (target.name, _spans(spans))
    return found


def _spans(rows: Sequence[Mapping[str, Any]] | None) -> tuple[Span, ...]:
    return tuple((row["start"], row["end"]) for row in rows or ())
