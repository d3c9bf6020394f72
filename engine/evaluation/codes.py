"""A run's codes held against gold: every row of `metrics` and `wrong`, and what a reader must be told."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.answers import Answers, task_metrics
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.gold import Gold
from engine.evaluation.joined import Joined, agreement_of, answers_of, checks_of, columns_of, join, noted, unknown_labels
from engine.evaluation.metrics import ALL, Metric, Rounds, count_metrics, mean_metrics, record_metrics
from engine.evaluation.rows import Rows, texts_of
from engine.evaluation.wrong import wrong_codes

_SHOWN = 5
_LONGEST_CODE = 12
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
        rows: a table of codes, or its files. tasks: those of the gold table, all of them tasks of the run.
        slices: columns of gold or of the run to part the records by.
        known: the codes that the model can give, by task; None where the checkpoint is not at hand.
    Raises:
        ConfigError: no row of the run has gold, a column is missing, or the labels are not those of the task.
    """
    rounds = rounds or Rounds()
    joined = join(rows, gold.table, columns_of(tasks), slices)
    counts = {**gold.counts, "without_row": joined.without_row, "matched": len(joined)}
    metrics: list[Metric] = []
    notes = noted(counts)
    first = {tasks[0]: texts_of(joined.gold[tasks[0]])} if tasks[0] not in gold.multi else {}
    parts = first | joined.parts(slices)
    right: dict[str, NDArray] = {}
    given: dict[str, tuple[Answers, NDArray]] = {}
    for task in tasks:
        answers, labelled = answers_of(joined, task, task in gold.multi)
        if not labelled.size:
            notes.append(f"{task}: no record of the run has a label for it.")
            continue
        metrics += task_metrics(answers, {name: values[labelled] for name, values in parts.items()}, rounds)
        given[task] = answers, labelled
        right[task] = np.zeros(len(joined), dtype=bool)
        right[task][labelled] = answers.right
        notes += about_labels(task, answers.gold, known)
        if known is not None:
            strange = unknown_labels(answers.gold, known[task])
            metrics.append(Metric(task, "unknown_label", ALL, float(sum(strange.values())), None, None, labelled.size, {}))
        if len(set(answers.gold)) == 1:
            notes.append(f"{task}: every label is the same code, so that figures over codes say little.")
        metrics += _evidence(joined, task, notes, rounds)
    if not right:
        raise ConfigError(f"labels: none of {len(joined):,} records of the run has a label for {' or '.join(tasks)}")
    complete = np.logical_and.reduce([joined.gold[task].is_not_null().to_numpy() for task in right])
    metrics += record_metrics(texts_of(joined.run["decision"]), joined.unit, right, complete, rounds)
    metrics += count_metrics(counts)
    return Evaluation(tuple(right), metrics, notes, counts, wrong_codes(joined, given, slices))


def _evidence(joined: Joined, task: str, notes: list[str], rounds: Rounds) -> list[Metric]:
    unit = joined.unit
    metrics = mean_metrics(task, checks_of(joined, task), unit, rounds)
    if f"{task}_spans" not in joined.gold.columns or f"{task}_evidence" not in joined.run.columns:
        return metrics
    values, counts = agreement_of(joined, task)
    notes += noted(counts, _NOT_COMPARED, f"{task}: ")
    return metrics + mean_metrics(task, values, unit, rounds)


def about_labels(task: str, gold: NDArray, known: Mapping[str, Sequence[str]] | None, key: str = "labels") -> list[str]:
    """What to tell of labels that the model cannot give; `key` is what the user calls the mapping of tasks to columns.

    Raises:
        ConfigError: it can give none of them.
    """
    if known is None:
        return []
    strange = unknown_labels(gold, known[task])
    if not strange:
        return []
    # A wrong column may hold anything, so only what looks like a code is shown.
    shown = [code for code in strange if len(code) <= _LONGEST_CODE and " " not in code][:_SHOWN]
    told = f" ({', '.join(shown)}{', ...' if len(strange) > len(shown) else ''})" if shown else ""
    if sum(strange.values()) >= gold.size and not set(gold) & set(known[task]):
        raise ConfigError(
            f"{key}: none of the {len(set(gold)):,} different labels{told} is a code of task {task}, which gives codes such as "
            f"{', '.join(list(known[task])[:3])}; name the column with those"
        )
    return [f"{task}: {sum(strange.values()):,} records have a code that the model does not know{told}; they count as wrong."]
