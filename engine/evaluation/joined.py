"""A run joined with gold by record id, and the table of wrong answers that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError
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
from engine.records import AUTO, wrong_schema

_RUN_COLUMNS = ("record_id", "decision", "reasons", "text_sha256", "n_tokens", "run_id", "model_digest")
LEFT_OUT_OF_GOLD = {
    "without_row": "records of the gold table have no row in the run.",
    "unreadable": "rows of the gold table are broken or have no id.",
    "unlabelled": "rows of the gold table have no label.",
    "repeated": "rows of the gold table repeat an id and its labels; each counts once.",
    "conflicting": "rows of the gold table were left out, because their id occurs again with another label.",
}


@dataclass(frozen=True)
class Joined:
    """Rows of the run and of gold, one to one and in the same order.

    `gold` has `group` as the input has it and `slice_<name>`, whichever side they come from; `without_row` counts gold records
    without a row in the run.
    """

    run: pl.DataFrame
    gold: pl.DataFrame
    without_row: int

    def __len__(self) -> int:
        return len(self.run)

    @property
    def unit(self) -> NDArray:
        """[rows] the unit that a resample draws whole."""
        return grouped(self.gold["group"], self.run["record_id"])

    def parts(self, slices: Sequence[str]) -> dict[str, NDArray]:
        """The part of each record, "" for none: by the named columns, and by quarter of length where lengths are known."""
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
    gold_name: str = "the gold table",
) -> Joined:
    """The rows of the run that have gold, in the order of the run.

    Args:
        columns: further columns of the run's table; any that it lacks are left out.
        slices, group: columns of the run if gold has no `slice_<name>` or no `group`.
        pairs: `record_id` of the run with its `gold_id`; without it both sides share their ids.
    Raises:
        ConfigError: a column is missing or has too many different values, or no row has gold.
    """
    gold, names = pl.DataFrame(gold), schema_of(rows).names
    from_run = {f"slice_{name}": name for name in slices if f"slice_{name}" not in gold.columns}
    if group and "group" not in gold.columns:
        from_run["group"] = group
    for new, name in from_run.items():
        if name not in names:
            raise ConfigError(f"{'slices' if new != 'group' else new}: neither {gold_name} nor the run has a column '{name}'")
    wanted = [name for name in dict.fromkeys([*_RUN_COLUMNS, *columns, *from_run.values()]) if name in names]
    pairs = gold.select("record_id", gold_id="record_id") if pairs is None else pairs
    run = pl.DataFrame(selected(rows, wanted, pa.array(pairs["record_id"].to_list(), pa.string())))
    if not len(run):
        raise ConfigError(
            f"id: none of {len(gold):,} ids of {gold_name} is in the run. The run's ids come from its input.id and "
            "input.id_scope (jobs.status shows them): name the same column, and id_scope=file or source=<column> where the "
            "ids begin with the file's name"
        )
    at = run.select("record_id").join(pairs, on="record_id", maintain_order="left")
    at = at.join(gold.select(gold_id="record_id").with_row_index("at"), on="gold_id", maintain_order="left")["at"]
    matched = gold[at]
    for new, name in from_run.items():
        values = pl.Series(check_parts(name, run[name])) if new != "group" else run[name].cast(pl.String)
        matched = matched.with_columns(values.alias(new))
    if "group" not in matched.columns:
        matched = matched.with_columns(group=pl.lit(None, pl.String))
    check_length("group", group or "", matched["group"].to_arrow(), LONGEST_PART, "with ids")
    return Joined(run, matched, len(gold) - len(run))


def left_out_notes(counts: Mapping[Any, int], words: Mapping[Any, str] = LEFT_OUT_OF_GOLD, prefix: str = "") -> list[str]:
    """A sentence for each count that is not 0."""
    return [f"{prefix}{counts[name]:,} {text}" for name, text in words.items() if counts.get(name)]


def wrong_rows(joined: Joined, at: NDArray, slices: Sequence[str]) -> pl.DataFrame:
    """The columns that wrong answers take from their records; `at` are row numbers of `joined`."""
    names = [name for name in ("record_id", "decision", "reasons", "run_id", "model_digest") if name in joined.run.columns]
    parts = (pl.col(f"slice_{name}").replace("", None) for name in slices)
    return pl.concat([joined.run.select(names)[at], joined.gold.select("group", *parts)[at]], how="horizontal")


def worst_first(wrong: pl.DataFrame, slices: Sequence[str]) -> pa.Table:
    """The table `wrong`, without any text: first the answers that nobody looked at, the most confident on top."""
    wrong = wrong.with_columns(pl.col("prob").fill_nan(None))
    wrong = wrong.sort(pl.col("decision") != AUTO, -pl.col("prob"), "record_id", "task", nulls_last=True)
    return in_schema(wrong, wrong_schema(slices))


def in_schema(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of a schema; a column that they lack is null."""
    empty = {field.name: pl.lit(None) for field in schema if field.name not in rows.columns}
    return rows.with_columns(**empty).select(schema.names).to_arrow().cast(schema)
