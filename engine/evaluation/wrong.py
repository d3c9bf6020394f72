"""The wrong answers of a run by the ids of their records, for a person who wants to see what went wrong; no text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.evaluation.joined import Joined
from engine.evaluation.measure import Answers
from engine.records import AUTO, wrong_schema

WRONG = "wrong/wrong.parquet"
"""The table's place in the folder of an evaluation."""


def wrong_answers(
    joined: Joined, answers: Mapping[str, tuple[Answers, NDArray]], parts: Mapping[str, NDArray], slices: Sequence[str]
) -> pa.Table:
    """One row a record and task whose code is not the right one: first those that nobody looked at, the surest on top.

    Args:
        answers: each task's, with the numbers of their rows in `joined`.
        parts: name -> [len(joined)] values, "" for none; those of `slices` become columns.
    """
    schema = wrong_schema(slices)
    tables = [_of_task(joined, task, given, rows, parts, slices, schema) for task, (given, rows) in answers.items()]
    table = pa.concat_tables(tables)
    table = table.append_column("seen", pc.cast(pc.not_equal(table["decision"], AUTO), pa.int8()))
    order = [("seen", "ascending"), ("prob", "descending"), ("record_id", "ascending"), ("task", "ascending")]
    return table.sort_by(order).drop_columns("seen")


def _of_task(
    joined: Joined,
    task: str,
    answers: Answers,
    rows: NDArray,
    parts: Mapping[str, NDArray],
    slices: Sequence[str],
    schema: pa.Schema,
) -> pa.Table:
    wrong = np.flatnonzero(answers.answered & ~answers.right)
    at = rows[wrong]
    codes, gold = joined.codes.take(pa.array(at)), joined.gold.take(pa.array(at))
    columns = {
        "record_id": codes["record_id"],
        "task": pa.repeat(task, wrong.size),
        "decision": codes["decision"],
        "code": answers.code[wrong],
        "gold": answers.gold[wrong],
        "prob": answers.prob[wrong],
        "reasons": codes["reasons"],
        "task_decision": codes[f"{task}_decision"],
        "task_reasons": codes[f"{task}_reasons"],
        "group": gold["group"],
        **{f"slice_{name}": [value or None for value in parts[name][at].tolist()] for name in slices},
        "run_id": codes["run_id"],
        "model_digest": codes["model_digest"],
    }
    return pa.table({name: _column(values).cast(schema.field(name).type) for name, values in columns.items()}, schema=schema)


def _column(values: pa.ChunkedArray | Sequence | NDArray) -> pa.ChunkedArray | pa.Array:
    return values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)
