"""A run's codes beside gold, by record id."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import ConfigError, RowError
from engine.evaluation.answers import Answers
from engine.evaluation.gold import Gold, check_parts
from engine.evaluation.rationales import evidence_agreement
from engine.evaluation.rows import Rows, grouped, numbers_of, quarters, schema_of, selected, texts_of

CHECKS = ("comprehensiveness", "sufficiency")


@dataclass(frozen=True)
class Joined:
    """Rows of the run's table and of gold, one beside the other; `without_row` counts gold that the run has no row for."""

    codes: pa.Table
    gold: pa.Table
    multi: frozenset[str]
    without_row: int

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def decision(self) -> NDArray:
        return texts_of(self.codes["decision"])

    @property
    def group(self) -> NDArray:
        """The gold table's group; a record without one is a group of its own."""
        return grouped(self.gold["group"], self.gold["record_id"])


def join(rows: Rows, gold: Gold, tasks: Sequence[str], extra: Sequence[str] = ()) -> Joined:
    """The rows of the run that have gold.

    Args:
        tasks: tasks of the run's table to read. extra: further columns of it.
    Raises:
        ConfigError: a column is missing, or no row has gold.
    """
    ids = gold.table["record_id"].combine_chunks()
    schema = schema_of(rows)
    ends = ("code", "prob", "decision", "reasons", "top", "evidence", *CHECKS, *(f"random_{check}" for check in CHECKS))
    wanted = ["record_id", "decision", "reasons", "text_sha256", "n_tokens", "source", "run_id", "model_digest"]
    wanted += [f"{task}_{end}" for task in tasks for end in ends]
    missing = [name for name in extra if name not in schema.names]
    if missing:
        raise ConfigError(f"slices: neither the gold table nor the run has a column '{missing[0]}'")
    codes = selected(rows, [name for name in dict.fromkeys([*wanted, *extra]) if name in schema.names], ids)
    if not len(codes):
        raise ConfigError(
            f"id: none of {len(ids):,} ids of the gold table stands in the run. The run's ids come from its input.id and "
            "input.id_scope (jobs.status tells them): name the same column, and id_scope=file or source=<column> where the "
            "file's name stands in front"
        )
    at = pc.index_in(codes["record_id"], value_set=ids)
    return Joined(codes, gold.table.take(at), gold.multi, len(ids) - len(codes))


def answers_of(joined: Joined, task: str) -> tuple[Answers, NDArray]:
    """The answers of one task where gold has a label for it, and the numbers of those rows in `joined`."""
    rows = np.flatnonzero(joined.gold[task].is_valid())
    codes, gold = joined.codes.take(pa.array(rows)), joined.gold[task].take(pa.array(rows))
    multi, names = task in joined.multi, codes.column_names
    given = pl.Series(codes[f"{task}_code"])
    tops = codes[f"{task}_top"].to_pylist() if f"{task}_top" in names else [None] * len(codes)
    answers = Answers(
        task=task,
        gold=texts_of(gold),
        code=texts_of(given.str.split(";").list.sort().list.join(";") if multi else given),
        answered=given.is_not_null().to_numpy(),
        prob=numbers_of(codes[f"{task}_prob"]),
        decision=texts_of(codes["decision"]),
        own=texts_of(codes[f"{task}_decision" if f"{task}_decision" in names else "decision"]),
        top=[[entry["code"] for entry in top or ()] for top in tops],
        group=joined.group[rows],
        multi=multi,
    )
    return answers, rows


def parts_of(joined: Joined, slices: Sequence[str], first: str | None) -> dict[str, NDArray]:
    """What each record belongs to: the gold code of the first task, the named columns, the quarter by length.

    Raises:
        ConfigError: a column of the run does not part the records into a few; those of gold have been checked.
    """
    parts: dict[str, NDArray] = {}
    if first is not None and first not in joined.multi:
        parts[first] = texts_of(joined.gold[first])
    for name in slices:
        of_gold = f"slice_{name}" in joined.gold.column_names
        parts[name] = texts_of(joined.gold[f"slice_{name}"] if of_gold else check_parts(name, joined.codes[name]))
    quarter = quarters(numbers_of(joined.codes["n_tokens"]))
    return parts if "length" in parts or (quarter == "").all() else parts | {"length": quarter}


def checks_of(joined: Joined, task: str) -> dict[str, NDArray]:
    """Comprehensiveness and sufficiency where they were measured, their random control, and what is gained over it."""
    checks: dict[str, NDArray] = {}
    for name, sign in zip(CHECKS, (1, -1), strict=True):
        own, control = (f"{task}_{name}", f"{task}_random_{name}")
        if {own, control} <= set(joined.codes.column_names):
            values, chance = (numbers_of(joined.codes[column]) for column in (own, control))
            checks |= {name: values, f"random_{name}": chance, f"{name}_gain": sign * (values - chance)}
    return checks


def agreement_of(joined: Joined, task: str) -> tuple[dict[str, NDArray], dict[str, int]]:
    """Agreement of the evidence with gold spans, and how many records could not be compared and why.

    A record whose text is not the one that was coded, or whose spans lie outside it, is counted and left out.
    """
    counts = dict.fromkeys(("compared", "without_evidence", "other_text", "bad_spans"), 0)
    rows: list[dict[str, float] | None] = []
    columns = (
        joined.gold["record_id"],
        joined.gold["text"],
        joined.gold[f"{task}_spans"],
        joined.gold["text_sha256"],
        joined.codes["text_sha256"],
        joined.codes[f"{task}_evidence"],
    )
    for name, text, marked, digest, coded, evidence in zip(*(column.to_pylist() for column in columns), strict=True):
        found = None
        if marked and text is not None and coded is not None:
            if digest != coded:
                counts["other_text"] += 1
            else:
                try:
                    found = evidence_agreement(text, evidence or (), marked, name)
                    counts["without_evidence" if found is None else "compared"] += 1
                except RowError:
                    counts["bad_spans"] += 1
        rows.append(found)
    names = next((list(each) for each in rows if each), [])
    return {name: np.array([np.nan if each is None else each[name] for each in rows]) for name in names}, counts


def unknown_labels(gold: NDArray, known: Sequence[str]) -> dict[str, int]:
    """Gold codes that are none of the known ones, and how many records have each, commonest first."""
    codes = pl.Series("code", gold, pl.String).str.split(";").explode()
    unknown = codes.filter((codes != "") & ~codes.is_in(list(known))).value_counts()
    return dict(unknown.sort("count", "code", descending=[True, False]).iter_rows())
