"""A whole evaluation: from a run's files and gold to every row of `metrics` and `wrong`, and what a reader must be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.evaluation.gold import Gold
from engine.evaluation.joined import Joined, agreement_of, answers_of, checks_of, join, parts_of, unknown_labels
from engine.evaluation.measure import ALL, Answers, Metric, Rounds, mean_metrics, record_metrics, task_metrics
from engine.evaluation.wrong import wrong_answers
from engine.records import wrong_schema

_SHOWN = 5
_LONGEST_CODE = 12


@dataclass(frozen=True)
class Evaluation:
    """The metrics, in `notes` what was left out or could not be said, one sentence each, and the answers that are `wrong`, worst
    first."""

    tasks: tuple[str, ...]
    metrics: list[Metric]
    notes: list[str]
    counts: Mapping[str, int] = field(default_factory=dict)
    wrong: pa.Table = field(default_factory=lambda: wrong_schema(()).empty_table())

    def get(self, task: str | None, metric: str, part: str = ALL) -> Metric | None:
        """One row, if it is there."""
        return next((m for m in self.metrics if (m.task, m.metric, m.slice) == (task, metric, part)), None)

    def rows(self, task: str | None, metric: str, prefix: str = "") -> list[Metric]:
        """The rows of a metric whose slice begins with a prefix, in order."""
        return [m for m in self.metrics if (m.task, m.metric) == (task, metric) and m.slice.startswith(prefix)]


def evaluate(
    files: Sequence[str],
    gold: Gold,
    tasks: Sequence[str],
    slices: Sequence[str] = (),
    known: Mapping[str, Sequence[str]] | None = None,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures the tables of a run against gold.

    Args:
        files: the published tables. tasks: those of the gold table, all of them tasks of the run.
        slices: columns of gold or of the run to part the records by.
        known: the codes that the model can give, by task; None where the checkpoint is not at hand.
    Raises:
        ConfigError: no row of the run has gold, a column is missing, or the labels are not those of the task.
    """
    rounds = rounds or Rounds()
    theirs = [name for name in slices if f"slice_{name}" not in gold.table.column_names]
    joined = join(files, gold, tasks, theirs)
    counts = {**gold.counts, "without_row": joined.without_row, "matched": len(joined)}
    found, notes = [], _notes(counts)
    parts = parts_of(joined, slices, tasks[0])
    right: dict[str, NDArray] = {}
    given: dict[str, tuple[Answers, NDArray]] = {}
    for task in tasks:
        answers, rows = answers_of(joined, task)
        if not rows.size:
            notes.append(f"{task}: no record of the run has a label for it.")
            continue
        found += task_metrics(answers, {name: values[rows] for name, values in parts.items()}, rounds)
        given[task] = answers, rows
        right[task] = np.zeros(len(joined), dtype=bool)
        right[task][rows] = answers.right
        notes += about_labels(task, answers.gold, known)
        if known is not None:
            strange = unknown_labels(answers.gold, known[task])
            found.append(Metric(task, "unknown_label", ALL, float(sum(strange.values())), None, None, rows.size, {}))
        if len(set(answers.gold)) == 1:
            notes.append(f"{task}: every label is the same code, so that figures over codes say little.")
        found += _evidence(joined, task, notes, rounds)
    if not right:
        raise ConfigError(f"labels: none of {len(joined):,} records of the run has a label for {' or '.join(tasks)}")
    complete = np.logical_and.reduce([joined.gold[task].is_valid().to_numpy(zero_copy_only=False) for task in right])
    found += record_metrics(joined.decision, joined.group, right, complete, rounds)
    for name in ("rows", "used", "matched", "without_row", "elsewhere", "unreadable", "unlabelled", "repeated", "conflicting"):
        found.append(Metric(None, f"gold_{name}", ALL, float(counts[name]), None, None, counts["rows"]))
    return Evaluation(tuple(right), found, notes, counts, wrong_answers(joined, given, parts, slices))


def _evidence(joined: Joined, task: str, notes: list[str], rounds: Rounds) -> list[Metric]:
    found = mean_metrics(task, checks_of(joined, task), joined.group, rounds)
    if f"{task}_spans" not in joined.gold.column_names:
        return found
    if f"{task}_evidence" not in joined.codes.column_names:
        return found
    values, counts = agreement_of(joined, task)
    found += mean_metrics(task, values, joined.group, rounds)
    if counts["other_text"]:
        notes.append(
            f"{task}: {counts['other_text']:,} marked texts are not the texts that were coded; their spans were left out."
        )
    if counts["bad_spans"]:
        notes.append(f"{task}: {counts['bad_spans']:,} records have marked spans outside their text; they were left out.")
    if counts["without_evidence"]:
        notes.append(f"{task}: {counts['without_evidence']:,} marked records have no evidence, or no word under a mark.")
    return found


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


def _notes(counts: Mapping[str, int]) -> list[str]:
    words = {
        "without_row": "records of the gold table have no row in the run.",
        "unreadable": "rows of the gold table are broken or have no id.",
        "unlabelled": "rows of the gold table have no label.",
        "repeated": "rows of the gold table repeat an id and its labels; each counts once.",
        "conflicting": "rows of the gold table were left out, because their id stands again with another label.",
    }
    return [f"{counts[name]:,} {told}" for name, told in words.items() if counts[name]]
