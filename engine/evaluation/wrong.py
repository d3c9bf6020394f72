"""The wrong answers of a run by the ids of their records, for a person who wants to see what went wrong; no text."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.answers import Answers
from engine.evaluation.joined import Joined
from engine.records import AUTO, wrong_schema


def wrong_codes(joined: Joined, answers: Mapping[str, tuple[Answers, NDArray]], slices: Sequence[str]) -> pa.Table:
    """One row a record and task whose code is not the right one.

    Args:
        answers: each task's, with the numbers of their rows in `joined`.
    """
    found = []
    for task, (given, rows) in answers.items():
        wrong = np.flatnonzero(given.answered & ~given.right)
        decided = {f"task_{end}": joined.run[f"{task}_{end}"][rows[wrong]] for end in ("decision", "reasons")}
        cells = {"code": given.code[wrong], "gold": given.gold[wrong], "prob": given.prob[wrong]}
        found.append(wrong_rows(joined, rows[wrong], slices).with_columns(task=pl.lit(task), **cells, **decided))
    return worst_first(pl.concat(found), slices)


def wrong_rows(joined: Joined, at: NDArray, slices: Sequence[str]) -> pl.DataFrame:
    """What a wrong answer has from its record: the rows of `joined` with these numbers."""
    names = [name for name in ("record_id", "decision", "reasons", "run_id", "model_digest") if name in joined.run.columns]
    parts = (pl.col(f"slice_{name}").replace("", None) for name in slices)
    return pl.concat([joined.run.select(names)[at], joined.gold.select("group", *parts)[at]], how="horizontal")


def worst_first(wrong: pl.DataFrame, slices: Sequence[str]) -> pa.Table:
    """First those that nobody looked at, the surest on top."""
    wrong = wrong.with_columns(pl.col("prob").fill_nan(None))
    wrong = wrong.sort(pl.col("decision") != AUTO, -pl.col("prob"), "record_id", "task", nulls_last=True)
    return in_schema(wrong, wrong_schema(slices))


def in_schema(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of a schema; one that they have not is null."""
    empty = {field.name: pl.lit(None) for field in schema if field.name not in rows.columns}
    return rows.with_columns(**empty).select(schema.names).to_arrow().cast(schema)
