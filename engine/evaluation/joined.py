"""A run beside gold, by record id, and what a run of codes says there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError, RowError
from engine.evaluation.answers import Answers
from engine.evaluation.rationales import evidence_agreement
from engine.evaluation.rows import (
    LONGEST_PART,
    Rows,
    check_length,
    check_parts,
    grouped,
    numbers_of,
    quarters,
    schema_of,
    selected,
    texts_of,
)

CHECKS = ("comprehensiveness", "sufficiency")
_OF_RUN = ("record_id", "decision", "reasons", "text_sha256", "n_tokens", "run_id", "model_digest")
_OF_TASK = ("code", "prob", "decision", "reasons", "top", "evidence", *CHECKS, *(f"random_{check}" for check in CHECKS))

LEFT_OUT_OF_GOLD = {
    "without_row": "records of the gold table have no row in the run.",
    "unreadable": "rows of the gold table are broken or have no id.",
    "unlabelled": "rows of the gold table have no label.",
    "repeated": "rows of the gold table repeat an id and its labels; each counts once.",
    "conflicting": "rows of the gold table were left out, because their id stands again with another label.",
}


@dataclass(frozen=True)
class Joined:
    """Rows of the run's table and of gold, one beside the other.

    `gold` has `group` as it was given and `slice_<name>`, whichever side they come from; `without_row` counts gold that the run
    has no row for.
    """

    run: pl.DataFrame
    gold: pl.DataFrame
    without_row: int

    def __len__(self) -> int:
        return len(self.run)

    @property
    def unit(self) -> NDArray:
        """[rows] what a resample draws whole."""
        return grouped(self.gold["group"], self.run["record_id"])

    def parts(self, slices: Sequence[str]) -> dict[str, NDArray]:
        """What each record belongs to, "" for nothing: the named columns, and the quarter by length where lengths are known."""
        parts = {name: texts_of(self.gold[f"slice_{name}"]) for name in slices}
        quarter = quarters(numbers_of(self.run["n_tokens"])) if "n_tokens" in self.run.columns else np.array("")
        return parts if "length" in parts or (quarter == "").all() else parts | {"length": quarter}


def join(
    rows: Rows,
    gold: pa.Table | pl.DataFrame,
    columns: Sequence[str],
    slices: Sequence[str] = (),
    group: str | None = None,
    pairs: pl.DataFrame | None = None,
    called: str = "the gold table",
) -> Joined:
    """The rows of the run that have gold, in the order of the run.

    Args:
        columns: of the run's table beside those that each has; one that it lacks is left out.
        slices, group: columns of the run where gold has no `slice_<name>` and no `group`.
        pairs: `record_id` of the run and `gold_id`; else these are the same.
    Raises:
        ConfigError: a column is missing, does not part the records into a few, or no row has gold.
    """
    gold, names = pl.DataFrame(gold), schema_of(rows).names
    theirs = {f"slice_{name}": name for name in slices if f"slice_{name}" not in gold.columns}
    if group and "group" not in gold.columns:
        theirs["group"] = group
    for new, name in theirs.items():
        if name not in names:
            raise ConfigError(f"{'slices' if new != 'group' else new}: neither {called} nor the run has a column '{name}'")
    wanted = [name for name in dict.fromkeys([*_OF_RUN, *columns, *theirs.values()]) if name in names]
    pairs = gold.select("record_id", gold_id="record_id") if pairs is None else pairs
    run = pl.DataFrame(selected(rows, wanted, pa.array(pairs["record_id"].to_list(), pa.string())))
    if not len(run):
        raise ConfigError(
            f"id: none of {len(gold):,} ids of {called} stands in the run. The run's ids come from its input.id and "
            "input.id_scope (jobs.status tells them): name the same column, and id_scope=file or source=<column> where the "
            "file's name stands in front"
        )
    at = run.select("record_id").join(pairs, on="record_id", maintain_order="left")
    at = at.join(gold.select(gold_id="record_id").with_row_index("at"), on="gold_id", maintain_order="left")["at"]
    beside = gold[at]
    for new, name in theirs.items():
        values = pl.Series(check_parts(name, run[name])) if new != "group" else run[name].cast(pl.String)
        beside = beside.with_columns(values.alias(new))
    if "group" not in beside.columns:
        beside = beside.with_columns(group=pl.lit(None, pl.String))
    check_length("group", group or "", beside["group"].to_arrow(), LONGEST_PART, "with ids")
    return Joined(run, beside, len(gold) - len(run))


def noted(counts: Mapping[Any, int], words: Mapping[Any, str] = LEFT_OUT_OF_GOLD, before: str = "") -> list[str]:
    """A sentence of each count that is there and not 0."""
    return [f"{before}{counts[name]:,} {told}" for name, told in words.items() if counts.get(name)]


def columns_of(tasks: Iterable[str]) -> list[str]:
    """The columns of tasks in a table of codes."""
    return [f"{task}_{end}" for task in tasks for end in _OF_TASK]


def answers_of(joined: Joined, task: str, multi: bool) -> tuple[Answers, NDArray]:
    """The answers of one task where gold has a label for it, and the numbers of those rows in `joined`."""
    rows = np.flatnonzero(joined.gold[task].is_not_null())
    run, given = joined.run[rows], joined.run[f"{task}_code"][rows]
    answers = Answers(
        task=task,
        gold=texts_of(joined.gold[task][rows]),
        code=texts_of(given.str.split(";").list.sort().list.join(";") if multi else given),
        answered=given.is_not_null().to_numpy(),
        prob=numbers_of(run[f"{task}_prob"]),
        decision=texts_of(run["decision"]),
        own=texts_of(run[f"{task}_decision"]),
        top=[[entry["code"] for entry in top or ()] for top in run[f"{task}_top"].to_list()],
        group=joined.unit[rows],
        multi=multi,
    )
    return answers, rows


def checks_of(joined: Joined, task: str) -> dict[str, NDArray]:
    """Comprehensiveness and sufficiency where they were measured, their random control, and what is gained over it."""
    checks: dict[str, NDArray] = {}
    for name, sign in zip(CHECKS, (1, -1), strict=True):
        own, control = (f"{task}_{name}", f"{task}_random_{name}")
        if {own, control} <= set(joined.run.columns):
            values, chance = (numbers_of(joined.run[column]) for column in (own, control))
            checks |= {name: values, f"random_{name}": chance, f"{name}_gain": sign * (values - chance)}
    return checks


def agreement_of(joined: Joined, task: str) -> tuple[dict[str, NDArray], dict[str, int]]:
    """Agreement of the evidence with gold spans, and how many records could not be compared and why.

    A record whose text is not the one that was coded, or whose spans lie outside it, is counted and left out.
    """
    counts = dict.fromkeys(("compared", "without_evidence", "other_text", "bad_spans"), 0)
    rows: list[dict[str, float] | None] = []
    columns = (
        *(joined.gold[name] for name in ("record_id", "text", f"{task}_spans", "text_sha256")),
        *(joined.run[name] for name in ("text_sha256", f"{task}_evidence")),
    )
    for name, text, marked, digest, coded, evidence in zip(*(column.to_list() for column in columns), strict=True):
        found = None
        if marked and None not in marked and text is not None and coded is not None:
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
