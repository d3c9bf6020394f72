"""Figures of a model of codes on unseen texts, and their presentation to people."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.evaluation import calibration, classes
from engine.models.code_calibrating import Outcome, least_rows, outcome
from engine.models.code_decide import auto_codes
from engine.models.code_task import Task, TaskCalibration
from engine.models.options import CodeOptions

TARGET = 0.98
# With fewer reports the accuracy may be off by six points or more.
FEW = 200


def measured(
    task: Task, table: pa.Table, logits: np.ndarray, fitted: TaskCalibration, baseline: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A task's figures under a run's default decisions.

    Args:
        table: `record_id`, the task's codes, and optionally `group`, `source`, and `leak`: whether the text contains its code.
            logits: of its rows. baseline: figures of a baseline model on the same texts.
    """
    return {
        "model": _measure(task, table, logits, fitted),
        "calibration": fitted.figures,
        "codes": {"all": len(task.labels), "supported": sum(n >= CodeOptions.min_support for n in task.support)},
        "auto_codes": auto_codes(task, fitted, CodeOptions()),
        "baseline": baseline,
    }


def report(figures: Mapping[str, Any]) -> list[str]:
    """The figures, one line per task."""
    lines = []
    for name, task in figures["tasks"].items():
        model, baseline = task["model"], task["baseline"]
        accuracy, f1 = (f"{model[figure]:.3f}" for figure in ("accuracy", "macro_f1"))
        other = f" (baseline {baseline['accuracy']:.3f}, {baseline['macro_f1']:.3f})" if baseline else ""
        lines.append(f"{name}: accuracy {accuracy}, macro-F1 {f1} on {model['n']} test reports{other}")
    return lines


def chapters(figures: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The model card's lines about each task; `labels` are those of each task."""
    lines = []
    for name, task in figures["tasks"].items():
        count = len(labels[name])
        lines += ["", f"## {name} ({count} codes)", "", *_task(task), *_auto(task["auto_codes"], count)]
    return lines


def cautions(figures: Mapping[str, Any]) -> list[str]:
    """A warning line for everything that the training was too small or too poor for."""
    return [f"{name}: {line}" for name, task in figures["tasks"].items() for line in _task_cautions(task)]


def _task_cautions(task: Mapping[str, Any]) -> list[str]:
    model, fitted, baseline = task["model"], task["calibration"], task["baseline"]
    lines = []
    worse = [name for name in ("accuracy", "macro_f1") if baseline and model[name] < baseline[name]]
    if worse:
        pairs = " and ".join(f"{name.replace('_f1', '-F1')} {model[name]:.3f} against {baseline[name]:.3f}" for name in worse)
        lines.append(
            f"worse than the baseline, TF-IDF with logistic regression ({pairs}): do not use it as it is; more epochs "
            "(train.epochs) or more reports may help"
        )
    n = model["n"]
    if n < FEW:
        bound = calibration.lower_bound(round(n * model["accuracy"]), n)
        lines.append(f"{_reports(n, 'test')} prove only that the accuracy is at least {bound:.3f} (95 % confidence)")
    if fitted["bound"] is None:
        lines.append(f"{_no_threshold(fitted)}, so every report goes to review")
    codes, least = task["codes"], CodeOptions.min_support
    if codes["supported"] < codes["all"]:
        rare = codes["all"] - codes["supported"]
        which = f"all {rare}" if rare == codes["all"] else f"{rare} of {codes['all']}"
        lines.append(f"{which} codes have fewer than {least} training reports (decision.min_support) and always go to review")
    return lines


def _no_threshold(fitted: Mapping[str, Any]) -> str:
    promise = f"{100 * fitted['target']:g} % right with {100 * fitted['confidence']:g} % confidence"
    least = least_rows(fitted["target"], fitted["confidence"])
    if fitted["n"] < least:
        are = "is" if fitted["n"] == 1 else "are"
        return f"{_reports(fitted['n'], 'valid')} {are} too few for a threshold: {promise} takes {least} without an error"
    return f"no threshold on the {fitted['n']:,} valid reports keeps {promise}"


def _reports(n: int, split: str) -> str:
    return f"{n:,} {split} report{'s' if n != 1 else ''} with a code"


def _measure(task: Task, test: pa.Table, logits: np.ndarray, fitted: TaskCalibration) -> dict[str, Any]:
    labelled = outcome(task, test[task.name].to_pylist(), logits, fitted)
    rows = test.take(pa.array(labelled.rows))
    columns = {name: np.array(rows[name].to_pylist()) for name in ("group", "source", "leak") if name in rows.column_names}
    groups = columns.get("group", rows["record_id"].to_pylist())
    low, high = classes.bootstrap_interval(lambda drawn: float(labelled.right[drawn].mean()), groups)
    everything = np.ones(len(rows), dtype=bool)
    leak, source = columns.get("leak", ~everything).astype(bool), columns.get("source", np.array([]))
    parts = {"icd_code_in_text": leak, "no_icd_code_in_text": ~leak} if leak.any() else {}
    parts |= {name: source == name for name in sorted(set(source))}
    figures = _figures(labelled, everything, fitted.threshold)
    if labelled.macro_f1 is not None:
        figures["macro_f1"] = labelled.macro_f1
    return figures | {
        "accuracy_low": low,
        "accuracy_high": high,
        "ece": calibration.expected_calibration_error(labelled.certainty, labelled.right),
        "parts": {name: _figures(labelled, mask, fitted.threshold) for name, mask in parts.items() if mask.any()},
    }


def _figures(labelled: Outcome, mask: np.ndarray, threshold: float) -> dict[str, Any]:
    certainty, right = labelled.certainty[mask], labelled.right[mask]
    figures: dict[str, Any] = dict(classes.summary(labelled.gold[mask], labelled.predicted[mask], certainty, TARGET))
    # A code that training never saw is wrong, and in a multi-label answer every yes and no must be right.
    figures["accuracy"] = float(right.mean())
    figures["keepable_share"] = classes.keepable_share(certainty, right, TARGET)
    return figures | {"threshold": classes.at_threshold(certainty, right, threshold)}


def _task(task: Mapping[str, Any]) -> list[str]:
    model, baseline, fitted = task["model"], task["baseline"], task["calibration"]
    rows = ["| test reports | n | | accuracy | macro-F1 | keepable at 98 % |", "|---|---|---|---|---|---|"]
    parts = {"all": (model, baseline)}
    flagged = {"icd_code_in_text": "flagged", "no_icd_code_in_text": "unflagged"}
    for part, values in model["parts"].items():
        parts[part] = (values, (baseline or {}).get(flagged.get(part, "")))
    for part, sides in parts.items():
        for side, values in zip(("this model", "TF-IDF + logistic regression"), sides, strict=True):
            if values:
                triple = f"{values['accuracy']:.3f} | {values['macro_f1']:.3f} | {values['keepable_share']:.1%}"
                rows.append(f"| {part} | {values['n']} | {side} | {triple} |")
    rows += [
        "",
        f"Accuracy {model['accuracy']:.3f}, by patient {model['accuracy_low']:.3f} to {model['accuracy_high']:.3f} (95 %).",
        *_threshold(model["threshold"], fitted),
        f"Expected calibration error: {fitted['ece_before']:.3f} before and {fitted['ece_after']:.3f} after temperature scaling"
        f" (valid), {model['ece']:.3f} on test.",
        "`keepable` is the share that could be kept at 98 % accuracy if the cut were known; it is not a promise.",
    ]
    return rows


def _threshold(kept: Mapping[str, Any], fitted: Mapping[str, Any]) -> list[str]:
    if fitted["bound"] is None:
        return [f"No threshold on the {fitted['n']} valid reports holds 98 % by the lower 95 % bound: this task is never `auto`."]
    return [
        f"Threshold {fitted['threshold']:.4f}, fitted on {fitted['n']} valid reports for 98 % right by the lower 95 % bound:",
        f"there it keeps {fitted['share']:.1%}, {fitted['accuracy']:.1%} right (bound {fitted['bound']:.1%}).",
        f"**On test it keeps {kept['share']:.1%}, {kept['accuracy']:.1%} of them right.**",
    ]


def _auto(codes: Sequence[str], count: int) -> list[str]:
    """A paragraph about the codes that can be `auto`."""
    if not codes:
        return ["", f"**None of the {count} codes can be `auto`.**"]
    least = CodeOptions.min_support
    paragraph = (
        f"**{len(codes)} of the {count} codes can be `auto`**, those with a threshold and at least {least} real training reports "
        f"(`decision.min_support`): {', '.join(codes)}. The others always go to review."
    )
    return ["", *textwrap.wrap(paragraph, 120)]
