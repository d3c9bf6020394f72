"""From a user's labelled reports to a revision with new thresholds, and their effect in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.evaluation import calibration
from engine.evaluation.codes import label_notes
from engine.evaluation.gold import Gold, GoldConfig, read_gold
from engine.models.base import Say
from engine.models.code_calibrate import PER_CLASS, Data, Settings
from engine.models.code_calibrating import Effect, Recalibration, highest_target, least_rows, recalibrate, score_reports
from engine.models.code_decide import auto_codes
from engine.models.code_system import CodeSystem
from engine.models.code_task import Task, TaskCalibration
from engine.models.options import CodeOptions
from engine.models.revision import Revision

# Reports between progress lines.
_AT_ONCE = 256


def revise(system: CodeSystem, settings: Settings, say: Say, tell: Say) -> Revision:
    """See `engine.models.revision.calibrate`.

    Raises:
        ConfigError: the sample cannot be used or is too small, or no threshold could be fitted.
    """
    tasks = [system.config.task(name) for name in settings.data.labels or system.known()]
    sample = _sample(settings.data, [task.name for task in tasks])
    lines = [line for task in tasks for line in _about(task, sample.table[task.name])]
    _require(settings, {task.name: len(sample.table) - sample.table[task.name].null_count for task in tasks})
    table, logits = score_reports(system, sample.table, say, at_once=_AT_ONCE)
    tell(f"{len(table):,} labelled reports with text, of {sample.counts['rows']:,} rows.")
    tell("before: the effect of the checkpoint's own thresholds on them. after: of new ones, fitted without each report.")
    groups = [f"group {g}" if g is not None else f"report {i}" for i, g in enumerate(table["group"].to_pylist())]
    fitted, coded = dict(system.checkpoint.calibration), set()
    for task in tasks:
        before = system.calibration(task.name)
        result = recalibrate(task, _values(task, table[task.name]), logits[task.name], groups, before, settings)
        if result is None:
            lines.append(f"{task.name}: no labels; its calibration stays.")
            continue
        fitted[task.name] = result.fitted
        codes = auto_codes(task, result.fitted, CodeOptions(min_support=settings.min_support))
        coded.update(codes)
        lines += _task_lines(settings, task, result, codes)
    tell("\n".join(lines))
    if not coded:
        raise ConfigError(
            "target: no revision is written, since with it every report would go to review; give more labelled reports, or a "
            "target that the model reaches"
        )
    about = [
        "whose card follows; what that says of thresholds, `auto` codes and calibration error is replaced by this:",
        f"method {settings.method}, for {_promise(settings)}, fitted on the user's labelled sample.",
        "`before` and `after` are figures on that sample, `after` with each report decided by a calibration that has not",
        "seen its group.",
    ]
    return Revision("a calibration", about, lines, system.checkpoint.revised(fitted), system.checkpoint.part)


def _task_lines(settings: Settings, task: Task, result: Recalibration, codes: Sequence[str]) -> list[str]:
    after = ["  after: cannot be shown on reports of one group alone"]
    if result.after is not None:
        after = [f"  after, cross-fitted {_effect(result.after, settings.confidence)}", *_why_nothing(settings, result)]
    auto = f"{len(codes)} of {len(task.labels)} codes can be coded without a person (min_support={settings.min_support})"
    return [
        f"{task.name}, {result.before.n:,} reports:",
        f"  before              {_effect(result.before, settings.confidence)}",
        *after,
        f"  {_threshold(settings, result.fitted, result.before.n)}",
        f"  {auto}: {', '.join(codes)}" if codes else f"  {auto}",
    ]


def _why_nothing(settings: Settings, result: Recalibration) -> list[str]:
    """Why cross-fitting coded no report."""
    if result.after.kept:
        return []
    n, folds, least = result.after.n, result.folds, _least(settings)
    others = n - n // folds
    if others >= least:
        return [f"    in {folds} parts, {others:,} reports each: none of them shows the promise below"]
    return [
        f"    in {folds} parts, so each is fitted on {others:,} reports, but at least {least:,} without an error are needed:",
        f"    the effect can be shown from {_shown_from(settings):,} reports on",
    ]


def _effect(effect: Effect, confidence: float) -> str:
    if not effect.kept:
        return f"coded   0.0 %; calibration error {effect.error:.3f}"
    bound = calibration.lower_bound(effect.right, effect.kept, confidence)
    return (
        f"coded {100 * effect.kept / effect.n:5.1f} %, {100 * effect.right / effect.kept:.1f} % of it right "
        f"(at least {100 * bound:.1f} %); calibration error {effect.error:.3f}"
    )


def _threshold(settings: Settings, fitted: TaskCalibration, n: int) -> str:
    promise = _promise(settings)
    cuts = {code: cut for code, cut in (fitted.class_thresholds or {}).items() if cut <= 1}
    rest = "nothing" if fitted.threshold > 1 else f"a probability of {fitted.threshold:.4f}"
    if cuts:
        listed = ", ".join(f"{code} {cut:.4f}" for code, cut in sorted(cuts.items()))
        return f"own thresholds, each for {promise}: {listed}; of other codes {rest} is enough"
    if fitted.threshold <= 1:
        return f"sure from {rest} on, for {promise}"
    least = _least(settings)
    few = f"; at least {least:,} reports without an error are needed" if n < least else ""
    of_code = " of any code" if settings.method == PER_CLASS else ""
    return f"{n:,} reports{of_code} do not show {promise}{few}: nothing will be coded without a person"


def _sample(data: Data, tasks: Sequence[str]) -> Gold:
    settings = vars(data) | {"labels": data.labels or {task: task for task in tasks}}
    return read_gold(GoldConfig(**settings, keep_text=True, names={name: f"data.{name}" for name in settings}))


def _require(settings: Settings, counts: Mapping[str, int]) -> None:
    """Checks that some task has enough labels for any threshold.

    Raises:
        ConfigError: none has.
    """
    most, least = max(counts.values()), _least(settings)
    if most >= least:
        return
    have = ", ".join(f"{count:,} reports with a code of {task}" for task, count in counts.items())
    reach = math.floor(100 * highest_target(most, settings.confidence, settings.method)) / 100 if most else 0.0
    lower = f"; with so few, target={reach:g} is the highest possible" if reach >= 0.5 else ""
    of_code = " of one code" if settings.method == PER_CLASS else ""
    raise ConfigError(
        f"data.path: {have}: too few. {_promise(settings)} takes at least {least:,} reports{of_code} without an error, and "
        f"{_shown_from(settings):,} to show its effect{lower}"
    )


def _promise(settings: Settings) -> str:
    return f"{100 * settings.target:g} % right with {100 * settings.confidence:g} % confidence"


def _least(settings: Settings) -> int:
    return least_rows(settings.target, settings.confidence, settings.method)


def _shown_from(settings: Settings) -> int:
    """The number of reports of which all folds but one are enough for a threshold."""
    return math.ceil(_least(settings) * settings.folds / (settings.folds - 1))


def _about(task: Task, column: pa.ChunkedArray) -> list[str]:
    labels = column.drop_null().to_pylist()
    return label_notes(task.name, np.array(labels), task.labels, "data.labels") if labels else []


def _values(task: Task, column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    if not task.multi_label:
        return values
    return [None if value is None else [code for code in value.split(";") if code] for value in values]
