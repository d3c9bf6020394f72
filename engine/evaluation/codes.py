"""A run's codes measured against gold: all rows of `metrics` and `wrong`, and notes for the reader."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import ConfigError, RowError
from engine.evaluation.answers import Answers, task_metrics
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.gold import Gold
from engine.evaluation.joined import Joined, join, left_out_notes, worst_first, wrong_rows
from engine.evaluation.metrics import ALL, Metric, Rounds, count_metrics, mean_metrics, record_metrics
from engine.evaluation.rationales import evidence_agreement
from engine.evaluation.rows import Rows, numbers_of, texts_of

_SHOWN = 5
_LONGEST_CODE = 12
CHECKS = ("comprehensiveness", "sufficiency")
_TASK_COLUMNS = ("code", "prob", "decision", "reasons", "top", "evidence", *CHECKS, *(f"random_{check}" for check in CHECKS))
_NOT_COMPARED = {
    "other_text": "marked texts are not the texts that were coded; their spans were left out.",
    "bad_spans": "records have marked spans outside their text; they were left out.",
    "without_evidence": "marked records have no evidence, or no word under a mark.",
}


def figures(
    rows: Rows,
    gold: Gold,
    tasks: Sequence[str],
    slices: Sequence[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures coded rows against gold.

    Args:
        rows: a table of codes, or its files. tasks: tasks of the gold table; the run must have them all.
        slices: columns of gold or of the run that divide the records.
        known: the codes that the model can give, by task; None if the checkpoint is not at hand.
    Raises:
        ConfigError: no row of the run has gold, a column is missing, or the labels are not those of the task.
    """
    rounds = rounds or Rounds()
    joined = join(rows, gold.table, columns_of(tasks), slices)
    counts = {**gold.counts, "without_row": joined.without_row, "matched": len(joined)}
    metrics: list[Metric] = []
    notes = left_out_notes(counts)
    by_code = {tasks[0]: texts_of(joined.gold[tasks[0]])} if tasks[0] not in gold.multi else {}
    parts = by_code | joined.parts(slices)
    right: dict[str, NDArray] = {}
    wrong: list[pl.DataFrame] = []
    for task in tasks:
        answers, labelled = answers_of(joined, task, task in gold.multi)
        if not labelled.size:
            notes.append(f"{task}: no record of the run has a label for it.")
            continue
        metrics += task_metrics(answers, {name: values[labelled] for name, values in parts.items()}, rounds)
        right[task] = np.zeros(len(joined), dtype=bool)
        right[task][labelled] = answers.right
        wrong.append(_wrong(joined, answers, labelled, slices))
        if known is not None:
            notes += label_notes(task, answers.gold, known[task])
            unknown = sum(unknown_labels(answers.gold, known[task]).values())
            metrics.append(Metric(task, "unknown_label", ALL, float(unknown), n=labelled.size))
        if len(set(answers.gold)) == 1:
            notes.append(f"{task}: every label is the same code, so figures over codes say little.")
        metrics += _evidence(joined, task, notes, rounds)
    if not right:
        raise ConfigError(f"labels: none of {len(joined):,} records of the run has a label for {' or '.join(tasks)}")
    complete = np.logical_and.reduce([joined.gold[task].is_not_null().to_numpy() for task in right])
    metrics += record_metrics(texts_of(joined.run["decision"]), joined.unit, right, complete, rounds)
    metrics += count_metrics(counts)
    return Evaluation(tuple(right), metrics, notes, counts, worst_first(pl.concat(wrong), slices))


def _wrong(joined: Joined, answers: Answers, rows: NDArray, slices: Sequence[str]) -> pl.DataFrame:
    """The wrong answers of one task; `rows` are the row numbers of its answers in `joined`."""
    wrong = np.flatnonzero(answers.answered & ~answers.right)
    cells = {"code": answers.code[wrong], "gold": answers.gold[wrong], "prob": answers.prob[wrong]}
    cells |= {f"task_{end}": joined.run[f"{answers.task}_{end}"][rows[wrong]] for end in ("decision", "reasons")}
    return wrong_rows(joined, rows[wrong], slices).with_columns(task=pl.lit(answers.task), **cells)


def _evidence(joined: Joined, task: str, notes: list[str], rounds: Rounds) -> list[Metric]:
    metrics = mean_metrics(task, checks_of(joined, task), joined.unit, rounds)
    if f"{task}_spans" in joined.gold.columns and f"{task}_evidence" in joined.run.columns:
        values, counts = agreement_of(joined, task)
        notes += left_out_notes(counts, _NOT_COMPARED, f"{task}: ")
        metrics += mean_metrics(task, values, joined.unit, rounds)
    return metrics


def columns_of(tasks: Iterable[str]) -> list[str]:
    """The columns of tasks in a table of codes."""
    return [f"{task}_{end}" for task in tasks for end in _TASK_COLUMNS]


def answers_of(joined: Joined, task: str, multi: bool) -> tuple[Answers, NDArray]:
    """The answers of one task where gold has a label for it, and their row numbers in `joined`."""
    rows = np.flatnonzero(joined.gold[task].is_not_null())
    run, code = joined.run[rows], joined.run[f"{task}_code"][rows]
    answers = Answers(
        task=task,
        gold=texts_of(joined.gold[task][rows]),
        code=texts_of(code.str.split(";").list.sort().list.join(";") if multi else code),
        answered=code.is_not_null().to_numpy(),
        prob=numbers_of(run[f"{task}_prob"]),
        decision=texts_of(run["decision"]),
        task_decision=texts_of(run[f"{task}_decision"]),
        top=[[entry["code"] for entry in top or ()] for top in run[f"{task}_top"].to_list()],
        group=joined.unit[rows],
        multi=multi,
    )
    return answers, rows


def checks_of(joined: Joined, task: str) -> dict[str, NDArray]:
    """Comprehensiveness and sufficiency where they were measured, their random control, and the gain over it."""
    checks: dict[str, NDArray] = {}
    for name, sign in zip(CHECKS, (1, -1), strict=True):
        columns = (f"{task}_{name}", f"{task}_random_{name}")
        if set(columns) <= set(joined.run.columns):
            values, chance = (numbers_of(joined.run[column]) for column in columns)
            checks |= {name: values, f"random_{name}": chance, f"{name}_gain": sign * (values - chance)}
    return checks


def agreement_of(joined: Joined, task: str) -> tuple[dict[str, NDArray], dict[str, int]]:
    """Agreement of the evidence with gold spans, and counts of the records that could not be compared, by reason.

    A record whose text is not the one that was coded, or whose spans lie outside it, is counted and left out.
    """
    counts = dict.fromkeys(("compared", "without_evidence", "other_text", "bad_spans"), 0)
    rows: list[dict[str, float] | None] = []
    columns = [joined.gold[name] for name in ("record_id", "text", f"{task}_spans", "text_sha256")]
    columns += [joined.run[name] for name in ("text_sha256", f"{task}_evidence")]
    for name, text, marked, digest, coded, evidence in zip(*(column.to_list() for column in columns), strict=True):
        rows.append(None)
        if not marked or None in marked or text is None or coded is None:
            continue
        if digest != coded:
            counts["other_text"] += 1
            continue
        try:
            rows[-1] = evidence_agreement(text, evidence or (), marked, name)
            counts["without_evidence" if rows[-1] is None else "compared"] += 1
        except RowError:
            counts["bad_spans"] += 1
    names = next((list(row) for row in rows if row), [])
    return {name: np.array([np.nan if row is None else row[name] for row in rows]) for name in names}, counts


def unknown_labels(gold: NDArray, known: Sequence[str]) -> dict[str, int]:
    """Gold codes that are not among the known ones, with their number of records, most frequent first."""
    codes = pl.Series("code", gold, pl.String).str.split(";").explode()
    unknown = codes.filter((codes != "") & ~codes.is_in(list(known))).value_counts()
    return dict(unknown.sort("count", "code", descending=[True, False]).iter_rows())


def label_notes(task: str, gold: NDArray, known: Sequence[str], key: str = "labels") -> list[str]:
    """A note about labels that the model cannot give; `key` is the user's name for the mapping of tasks to columns.

    Raises:
        ConfigError: it can give none of them.
    """
    unknown = unknown_labels(gold, known)
    if not unknown:
        return []
    # A wrong column may hold anything, so only what looks like a code is shown.
    shown = [code for code in unknown if len(code) <= _LONGEST_CODE and " " not in code][:_SHOWN]
    examples = f" ({', '.join(shown)}{', ...' if len(unknown) > len(shown) else ''})" if shown else ""
    count = sum(unknown.values())
    if count >= gold.size and not set(gold) & set(known):
        raise ConfigError(
            f"{key}: none of the {len(set(gold)):,} different labels{examples} is a code of task {task}, which gives codes such "
            f"as {', '.join(list(known)[:3])}; name the column with those"
        )
    return [f"{task}: {count:,} records have a code that the model does not know{examples}; they count as wrong."]
