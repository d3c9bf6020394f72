"""The wrong codes of a run by the ids of their records, for a person who wants to see what went wrong; no text."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.answers import Answers
from engine.evaluation.joined import Joined
from engine.records import AUTO, wrong_schema


def wrong_answers(
    joined: Joined, answers: Mapping[str, tuple[Answers, NDArray]], parts: Mapping[str, NDArray], slices: Sequence[str]
) -> pa.Table:
    """One row a record and task whose code is not the right one: first those that nobody looked at, the surest on top.

    Args:
        answers: each task's, with the numbers of their rows in `joined`.
        parts: name -> [len(joined)] values, "" for none; those of `slices` become columns.
    """
    schema = wrong_schema(slices)
    wrong = pl.concat([_of_task(joined, task, given, rows, parts, slices) for task, (given, rows) in answers.items()])
    wrong = wrong.sort(pl.col("decision") != AUTO, -pl.col("prob"), "record_id", "task", nulls_last=True)
    return wrong.select(schema.names).to_arrow().cast(schema)


def _of_task(
    joined: Joined, task: str, answers: Answers, rows: NDArray, parts: Mapping[str, NDArray], slices: Sequence[str]
) -> pl.DataFrame:
    wrong = np.flatnonzero(answers.answered & ~answers.right)
    at = rows[wrong]
    codes, gold = (pl.DataFrame(table.take(pa.array(at))) for table in (joined.codes, joined.gold))
    return codes.select(
        "record_id",
        "decision",
        "reasons",
        "run_id",
        "model_digest",
        task=pl.lit(task),
        task_decision=f"{task}_decision",
        task_reasons=f"{task}_reasons",
    ).with_columns(
        pl.Series("code", answers.code[wrong], pl.String),
        pl.Series("gold", answers.gold[wrong], pl.String),
        pl.Series("prob", answers.prob[wrong], pl.Float64).fill_nan(None),
        gold["group"],
        *(pl.Series(f"slice_{name}", [value or None for value in parts[name][at].tolist()], pl.String) for name in slices),
    )
