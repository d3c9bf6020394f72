"""A run's answers beside gold, by record id."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.errors import ConfigError, RowError
from engine.evaluation.gold import Gold, check_parts
from engine.evaluation.measure import Answers
from engine.evaluation.rationales import evidence_agreement
from engine.storage import storage_for

CHECKS = ("comprehensiveness", "sufficiency")
QUARTILES = ("q1 shortest", "q2", "q3", "q4 longest")


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
        return _words(self.codes["decision"])

    @property
    def group(self) -> NDArray:
        """The gold table's group; a record without one is a group of its own."""
        given, ids = self.gold["group"].to_pylist(), self.gold["record_id"].to_pylist()
        return np.array([f"record {one}" if group is None else f"group {group}" for group, one in zip(given, ids, strict=True)])


def join(files: Sequence[str], gold: Gold, tasks: Sequence[str], extra: Sequence[str] = ()) -> Joined:
    """Reads the run's files batch by batch and keeps the rows that have gold.

    Args:
        tasks: tasks of the run's table to read. extra: further columns of it.
    Raises:
        ConfigError: a column is missing, or no row has gold.
    """
    ids = gold.table["record_id"].combine_chunks()
    with storage_for(files[0]).open(files[0]) as stream:
        schema = pq.read_schema(stream)
    ends = ("code", "prob", "decision", "reasons", "top", "evidence", *CHECKS, *(f"random_{check}" for check in CHECKS))
    wanted = ["record_id", "decision", "reasons", "text_sha256", "n_tokens", "source", "run_id", "model_digest"]
    wanted += [f"{task}_{end}" for task in tasks for end in ends]
    missing = [name for name in extra if name not in schema.names]
    if missing:
        raise ConfigError(f"slices: neither the gold table nor the run has a column '{missing[0]}'")
    wanted = [name for name in dict.fromkeys([*wanted, *extra]) if name in schema.names]
    found = []
    for file in files:
        with storage_for(file).open(file) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=wanted):
                mask = pc.is_in(batch.column("record_id"), value_set=ids)
                found.append(pa.Table.from_batches([batch]).filter(mask))
    codes = pa.concat_tables(found)
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
    rows = np.flatnonzero(joined.gold[task].is_valid().to_numpy(zero_copy_only=False))
    codes, gold = joined.codes.take(pa.array(rows)), joined.gold[task].take(pa.array(rows))
    given = codes[f"{task}_code"].to_pylist()
    multi = task in joined.multi
    tops = codes[f"{task}_top"].to_pylist() if f"{task}_top" in codes.column_names else [None] * len(codes)
    found = Answers(
        task=task,
        gold=_words(gold),
        code=np.array([";".join(sorted((code or "").split(";"))) if multi else code or "" for code in given], dtype=str),
        answered=np.array([code is not None for code in given], dtype=bool),
        prob=np.array([np.nan if prob is None else prob for prob in codes[f"{task}_prob"].to_pylist()], dtype=float),
        decision=_words(codes["decision"]),
        own=_words(codes[f"{task}_decision"]) if f"{task}_decision" in codes.column_names else _words(codes["decision"]),
        top=[[entry["code"] for entry in top or ()] for top in tops],
        group=joined.group[rows],
        multi=multi,
    )
    return found, rows


def parts_of(joined: Joined, slices: Sequence[str], first: str | None) -> dict[str, NDArray]:
    """What each record belongs to: the gold code of the first task, the named columns, the quarter by length.

    Raises:
        ConfigError: a column of the run does not part the records into a few; those of gold have been checked.
    """
    found: dict[str, NDArray] = {}
    if first is not None and first not in joined.multi:
        found[first] = _words(joined.gold[first])
    for name in slices:
        of_gold = f"slice_{name}" in joined.gold.column_names
        found[name] = _words(joined.gold[f"slice_{name}"] if of_gold else check_parts(name, joined.codes[name]))
    lengths = np.array([np.nan if n is None else n for n in joined.codes["n_tokens"].to_pylist()], dtype=float)
    known = lengths[~np.isnan(lengths)]
    if known.size and "length" not in found:
        cuts = np.quantile(known, [0.25, 0.5, 0.75])
        quarter = np.array(QUARTILES)[np.searchsorted(cuts, np.nan_to_num(lengths), side="left")]
        found["length"] = np.where(np.isnan(lengths), "", quarter)
    return found


def checks_of(joined: Joined, task: str) -> dict[str, NDArray]:
    """Comprehensiveness and sufficiency where they were measured, their random control, and what is gained over it."""
    found: dict[str, NDArray] = {}
    for name, sign in zip(CHECKS, (1, -1), strict=True):
        own, control = (f"{task}_{name}", f"{task}_random_{name}")
        if not {own, control} <= set(joined.codes.column_names):
            continue
        values, chance = (
            np.array([np.nan if v is None else v for v in joined.codes[column].to_pylist()], float) for column in (own, control)
        )
        found |= {name: values, f"random_{name}": chance, f"{name}_gain": sign * (values - chance)}
    return found


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
    counts: dict[str, int] = {}
    allowed = set(known)
    for codes in gold:
        for code in codes.split(";"):
            if code and code not in allowed:
                counts[code] = counts.get(code, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _words(column: pa.ChunkedArray) -> NDArray:
    return np.array([value or "" for value in column.to_pylist()], dtype=str)
