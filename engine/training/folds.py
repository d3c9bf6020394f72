"""Answers of models that have not seen what they are asked about: one model for each fold, trained on the other folds.

Each fold is a part of a side table, so after a kill the same call goes on where it stopped, inside a fold at its last epoch.
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
    """The answers of the models of some folds, fold after fold.

    Args:
        settings: plain values. `learner` and `answers` are `module:function`. The first is called as `function(fold, settings)`
            and returns an `engine.training.loop.Learner`; the second is called after the training as
            `function(learner, curve, fold, settings)` and returns a table of `schema`. `loop` holds fields of `LoopConfig`,
            `runtime` holds `work`, the folder for the trainings.
        folder: for the side table.
    """
    # The names of the two functions below are kept with the table: under other names it would count as another one.
    path = make(SideTable(name, schema, tuple(folds), f"{__name__}:answered", f"{__name__}:joined"), settings, folder, say)
    with storage_for(path).open(path) as stream:
        return pq.read_table(stream)


def answered(fold: int, settings: Mapping[str, Any]) -> pa.Table:
    """The answers of one fold's model."""
    learner = pkgutil.resolve_name(settings["learner"])(fold, settings)
    curve = trained(learner, LoopConfig(**settings["loop"]), Path(settings["runtime"]["work"]) / f"fold{fold}")
    return pkgutil.resolve_name(settings["answers"])(learner, curve, fold, settings)


def joined(tables: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    return pa.concat_tables(tables)
