"""The figures of an evaluation as a terminal shows them, by the table that was measured."""

from collections.abc import Sequence

import polars as pl

from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import Metric
from engine.records import AUTO, CODES, ENTITIES, FINDINGS

_ANSWERS = {"accuracy": "right of all answered", "macro_f1": "macro-F1", "ece": "calibration error"}
_DECIDING = {
    "auto_share": "coded without a person",
    "auto_accuracy": "right of those",
    "auto_accuracy_bound": "  at least, with {level} confidence",
    "review_accuracy": "right suggestion of those to review",
}
_NOT_DECIDING = {"sure_share": "sure by its own threshold", "sure_accuracy": "right of those"}
_EVIDENCE = {"comprehensiveness_gain": "evidence: comprehensiveness over random", "cov_lift": "evidence: lift on marked words"}
_ENTITIES = {
    "recall": "found of what is marked",
    "precision": "right of what was found",
    "f1": "F1, exact",
    "overlap_f1": "F1, any overlap",
    "start_accuracy": "begins right, where they overlap",
    "end_accuracy": "ends right, where they overlap",
    "ece": "calibration error of the scores",
    "context_share": "evidence: share on words of the text",
}
_FINDINGS = {
    "macro_auroc": "macro AUC",
    "macro_ap": "macro average precision",
    "macro_f1": "macro-F1",
    "ece": "calibration error",
}
_PLAIN = ("cov_lift",)


def main_figures(evaluation: Evaluation, deciding: Sequence[str], level: float) -> str:
    """The main figures and the notes.

    Args:
        deciding: the tasks that must be sure for a record to be coded without a person. level: of intervals and bounds.
    """
    lines = _HEADS[evaluation.table](evaluation, deciding, level)
    return "\n".join([*lines, *evaluation.notes])


def wrong_figures(evaluation: Evaluation) -> str:
    """How many answers are wrong."""
    wrong = pl.DataFrame(evaluation.wrong)
    if evaluation.table == ENTITIES:
        counts = dict(wrong["error"].value_counts().iter_rows())
        words = {"missed": "missed", "spurious": "found where none is", "type_wrong": "of another type"}
        parts = [f"{counts.get(error, 0):,} {text}" for error, text in words.items()]
        bounds = sum(count for error, count in counts.items() if error not in words)
        return f"Wrong mentions: {', '.join(parts)}, {bounds:,} with other bounds."
    counts = wrong.group_by("task").agg(pl.len(), (pl.col("decision") == AUTO).sum()).sort("task")
    by_task = {task: (count, auto) for task, count, auto in counts.iter_rows()}
    tasks = evaluation.tasks if evaluation.table == CODES else by_task
    pairs = {task: by_task.get(task, (0, 0)) for task in tasks}
    done = "coded" if evaluation.table == CODES else "decided"
    parts = [f"{task} {count:,} ({auto:,} {done} without a person)" for task, (count, auto) in pairs.items()]
    return f"Wrong answers: {', '.join(parts)}."


def _codes(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    counts = evaluation.counts
    lines = [f"{counts['matched']:,} records compared, {counts['rows']:,} rows in the gold table."]
    for task in evaluation.tasks:
        lines.append(f"{task}:" if task in deciding else f"{task} (no part in the decision to code without a person):")
        words = {**_ANSWERS, **(_DECIDING if task in deciding else _NOT_DECIDING), **_EVIDENCE}
        lines += [_line(evaluation.get(task, name), text.format(level=f"{level:.0%}")) for name, text in words.items()]
    return list(filter(None, lines))


def _entities(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    counts = evaluation.counts
    lines = [
        f"{counts['matched']:,} records compared, {counts['rows']:,} marked texts; {counts['marked']:,} mentions marked and "
        f"{counts['found']:,} found, of types that were looked for on both sides.",
        "All types:",
    ]
    lines += [_line(evaluation.get(ENTITIES, name), text) for name, text in _ENTITIES.items()]
    lines.append("F1 by type, exact:")
    lines += [_line(metric, metric.slice.removeprefix("type=")) for metric in evaluation.rows(ENTITIES, "f1", "type=")]
    return list(filter(None, lines))


def _findings(evaluation: Evaluation, deciding: Sequence[str], level: float) -> list[str]:
    counts = evaluation.counts
    lines = [f"{counts['matched']:,} studies compared, {counts['rows']:,} rows in the gold table."]
    return list(filter(None, [*lines, *(_line(evaluation.get(FINDINGS, name), text) for name, text in _FINDINGS.items())]))


_HEADS = {CODES: _codes, ENTITIES: _entities, FINDINGS: _findings}


def _line(metric: Metric | None, text: str) -> str:
    """A figure with its description and interval; empty where it is not defined."""
    if metric is None or (metric.value is None and not metric.too_few):
        return ""
    if metric.value is None:
        return f"  {text:<40} too few ({metric.n:,})"
    form = "{:.2f}" if metric.metric in _PLAIN else "{:.1%}"
    spread = "" if metric.low is None else f"  ({form.format(metric.low)} to {form.format(metric.high)})"
    return f"  {text:<40} {form.format(metric.value):>6}{spread}"
