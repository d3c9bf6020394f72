"""The figures of a model of codes on texts that nothing before has seen, and what is said of them to people."""

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
# Fewer give an accuracy that may be off by six points and more.
FEW = 200


def measured(
    task: Task, table: pa.Table, logits: np.ndarray, fitted: TaskCalibration, baseline: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A task's figures under the decisions that a run makes by default.

    Args:
        table: `record_id`, the task's codes, and where there are such `group`, `source`, and `leak`, whether the text names its
            code. logits: of its rows. baseline: figures of a plain model on the same texts.
    """
    return {
        "model": _measure(task, table, logits, fitted),
        "calibration": fitted.figures,
        "codes": {"all": len(task.labels), "supported": sum(n >= CodeOptions.min_support for n in task.support)},
        "auto_codes": auto_codes(task, fitted, CodeOptions()),
        "baseline": baseline,
    }


def report(figures: Mapping[str, Any]) -> list[str]:
    """The figures in a line a task."""
    lines = []
    for name, task in figures["tasks"].items():
        model, rival = task["model"], task["baseline"]
        beside = f" (baseline {rival['accuracy']:.3f}, {rival['macro_f1']:.3f})" if rival else ""
        lines.append(
            f"{name}: accuracy {model['accuracy']:.3f}, macro-F1 {model['macro_f1']:.3f} on {model['n']} test reports{beside}"
        )
    return lines


def chapters(figures: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of a card about each task, of those `labels`."""
    lines = []
    for name, task in figures["tasks"].items():
        count = len(labels[name])
        lines += ["", f"## {name} ({count} codes)", "", *_task(task), *_auto(task["auto_codes"], count)]
    return lines


def cautions(figures: Mapping[str, Any]) -> list[str]:
    """What a training was too small or too poor for, a line each."""
    return [f"{name}: {line}" for name, task in figures["tasks"].items() for line in _of_task(task)]


def _of_task(task: Mapping[str, Any]) -> list[str]:
    model, fitted, rival = task["model"], task["calibration"], task["baseline"]
    lines = []
    behind = [name for name in ("accuracy", "macro_f1") if rival and model[name] < rival[name]]
    if behind:
        told = " and ".join(f"{name.replace('_f1', '-F1')} {model[name]:.3f} against {rival[name]:.3f}" for name in behind)
        lines.append(
            f"behind the baseline, TF-IDF with logistic regression ({told}): do not use it as it is; more epochs (train.epochs) "
            "or more reports may help"
        )
    n = model["n"]
    if n < FEW:
        bound = calibration.lower_bound(round(n * model["accuracy"]), n)
        lines.append(f"{_reports(n, 'test')} show an accuracy of at least {bound:.3f} (95 % confidence), not more")
    if fitted["bound"] is None:
        lines.append(f"{_no_threshold(fitted)}, so every report goes to a person")
    codes, least = task["codes"], CodeOptions.min_support
    if codes["supported"] < codes["all"]:
        rare = codes["all"] - codes["supported"]
        which = f"all {rare}" if rare == codes["all"] else f"{rare} of {codes['all']}"
        lines.append(f"{which} codes have fewer than {least} training reports (decision.min_support) and always go to a person")
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
    found = outcome(task, test[task.name].to_pylist(), logits, fitted)
    rows = test.take(pa.array(found.rows))
    columns = {name: np.array(rows[name].to_pylist()) for name in ("group", "source", "leak") if name in rows.column_names}
    groups = columns.get("group", rows["record_id"].to_pylist())
    low, high = classes.bootstrap_interval(lambda drawn: float(found.right[drawn].mean()), groups)
    everything = np.ones(len(rows), dtype=bool)
    leak, source = columns.get("leak", ~everything).astype(bool), columns.get("source", np.array([]))
    parts = {"icd_code_in_text": leak, "no_icd_code_in_text": ~leak} if leak.any() else {}
    parts |= {name: source == name for name in sorted(set(source))}
    figures = _figures(found, everything, fitted.threshold)
    if found.macro_f1 is not None:
        figures["macro_f1"] = found.macro_f1
    return figures | {
        "accuracy_low": low,
        "accuracy_high": high,
        "ece": calibration.expected_calibration_error(found.sure, found.right),
        "parts": {name: _figures(found, mask, fitted.threshold) for name, mask in parts.items() if mask.any()},
    }


def _figures(found: Outcome, mask: np.ndarray, threshold: float) -> dict[str, Any]:
    sure, right = found.sure[mask], found.right[mask]
    figures: dict[str, Any] = dict(classes.summary(found.gold[mask], found.predicted[mask], sure, TARGET))
    # A code that training never saw is wrong, and of a multi-label answer every yes and no must be right.
    figures["accuracy"] = float(right.mean())
    figures["keepable_share"] = classes.keepable_share(sure, right, TARGET)
    return figures | {"threshold": classes.at_threshold(sure, right, threshold)}


def _task(task: Mapping[str, Any]) -> list[str]:
    model, rival, fitted = task["model"], task["baseline"], task["calibration"]
    rows = ["| test reports | n | | accuracy | macro-F1 | keepable at 98 % |", "|---|---|---|---|---|---|"]
    names = {"all": (model, rival)}
    flagged = {"icd_code_in_text": "flagged", "no_icd_code_in_text": "unflagged"}
    for part, values in model["parts"].items():
        names[part] = (values, (rival or {}).get(flagged.get(part, "")))
    for part, (ours, theirs) in names.items():
        rows.append(f"| {part} | {ours['n']} | this model | {_triple(ours)} |")
        if theirs:
            rows.append(f"| {part} | {theirs['n']} | TF-IDF + logistic regression | {_triple(theirs)} |")
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
    """Which codes can be `auto`, a paragraph of its own."""
    if not codes:
        return ["", f"**None of the {count} codes can be `auto`.**"]
    least = CodeOptions.min_support
    told = (
        f"**{len(codes)} of the {count} codes can be `auto`**, those with a threshold and at least {least} real training reports "
        f"(`decision.min_support`): {', '.join(codes)}. The others always go to review."
    )
    return ["", *textwrap.wrap(told, 120)]


def _triple(values: Mapping[str, Any]) -> str:
    return f"{values['accuracy']:.3f} | {values['macro_f1']:.3f} | {values['keepable_share']:.1%}"
