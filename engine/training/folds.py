"""Models that have not seen what they are asked about: one for each fold of the examples, trained on the others.

Each fold is a part of a side table, so that the same call goes on after a kill, and a fold's training behind its last epoch.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.models.base import SideTable
from engine.pipeline.tables import make
from engine.storage import storage_for
from engine.training.config import LoopConfig
from engine.training.here import trained


def out_of_fold(
    name: str, schema: pa.Schema, folds: Sequence[int], settings: Mapping[str, Any], folder: str, say: Callable[[str], None]
) -> pa.Table:
    """What the models of some folds answer, fold by fold.

    Args:
        settings: plain values. `learner` and `answers` are `module:function`, the first called as `function(fold, settings)` for
            an `engine.training.loop.Learner`, the second, when it is trained, as `function(learner, curve, fold, settings)` for a
            table of `schema`. `loop` are fields of `LoopConfig`, `runtime` has the folder `work` for the trainings.
        folder: for the side table.
    """
    path = make(SideTable(name, schema, tuple(folds), f"{__name__}:answered", f"{__name__}:joined"), settings, folder, say)
    with storage_for(path).open(path) as stream:
        return pq.read_table(stream)


def answered(fold: int, settings: Mapping[str, Any]) -> pa.Table:
    """The answers of the model of a fold."""
    learner = pkgutil.resolve_name(settings["learner"])(fold, settings)
    curve = trained(learner, LoopConfig(**settings["loop"]), Path(settings["runtime"]["work"]) / f"fold{fold}")
    return pkgutil.resolve_name(settings["answers"])(learner, curve, fold, settings)


def joined(tables: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    return pa.concat_tables(tables)
