"""From a user's labelled reports to a revision with thresholds of its own, and what it shows of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.evaluation.calibration import Promise
from engine.evaluation.codes import about_labels
from engine.evaluation.gold import Gold, GoldConfig, read_gold
from engine.models.base import ModelSpec, Say
from engine.models.revised import COMPARED, NOTHING, card, closing, require, sure_from
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.calibrate import Settings
from engine.models.site_classifier.calibrating import PER_CLASS
from engine.models.site_classifier.checkpoint import TaskCalibration, write_revision
from engine.models.site_classifier.config import Task
from engine.models.site_classifier.decide import DecisionConfig, auto_codes
from engine.models.site_classifier.recalibrating import recalibrate
from engine.models.token_system import logits_of
from engine.sources.base import delimiter_of

_DIALECT = ("encoding", "delimiter", "quoting", "escape")


def revise(spec: ModelSpec, settings: Settings, output: str, say: Say, tell: Say) -> None:
    """See `engine.models.base.calibrate`.

    Raises:
        ConfigError: the sample cannot be used or is too small, or no threshold could be fitted.
    """
    promise = _promise(settings)
    coder = _coder(spec, settings)
    tasks = _tasks(settings, coder)
    sample = _sample(settings, [task.name for task in tasks])
    lines = [line for task in tasks for line in _about(task, sample.table[task.name])]
    require(promise, settings.folds, {task.name: len(sample.table) - sample.table[task.name].null_count for task in tasks})
    table, logits = logits_of(coder, sample.table.filter(sample.table["text"].is_valid()), say)
    if not len(table):
        raise ConfigError("data.text: none of the labelled reports has a text")
    tell(f"{len(table):,} labelled reports with text, of {sample.counts['rows']:,} rows.")
    tell(COMPARED)
    groups = [f"group {g}" if g is not None else f"report {i}" for i, g in enumerate(table["group"].to_pylist())]
    fitted, coded = dict(coder.checkpoint.calibration), set()
    for task in tasks:
        before = fitted.get(task.name, TaskCalibration())
        found = recalibrate(task, _values(task, table[task.name]), logits[task.name], groups, before, settings)
        if found is None:
            lines.append(f"{task.name}: no labels; its calibration stays.")
            continue
        fitted[task.name] = found.fitted
        codes = auto_codes(task, found.fitted, DecisionConfig(min_support=settings.min_support))
        coded.update(codes)
        told = f"{len(codes)} of {len(task.labels)} codes can be coded without a person (min_support={settings.min_support})"
        threshold = _threshold(found.fitted, found.before.n, promise)
        lines += found.told(task.name, promise, threshold, f"{told}: {', '.join(codes)}" if codes else told)
    tell("\n".join(lines))
    if not coded:
        raise ConfigError(NOTHING)
    what, how = "thresholds, `auto` codes and calibration error", f"method {settings.method}, for {promise}"
    own = card(coder.digest, coder.checkpoint.head or coder.checkpoint.folder, what, how, lines)
    head = "" if settings.model.head is None else f" model.head={settings.model.head}"
    digest = write_revision(output, coder.checkpoint, fitted, own)
    tell(closing(digest, coder.digest, output) + head)


def _threshold(found: TaskCalibration, n: int, promise: Promise) -> str:
    cuts = {} if found.class_thresholds is None else {c: cut for c, cut in found.class_thresholds.items() if cut <= 1}
    if not cuts:
        return sure_from(found.threshold, n, promise)
    rest = "nothing" if found.threshold > 1 else f"a probability of {found.threshold:.4f}"
    told = ", ".join(f"{code} {cut:.4f}" for code, cut in sorted(cuts.items()))
    return f"own thresholds, each for {promise}: {told}; of other codes {rest} is enough"


def _coder(spec: ModelSpec, settings: Settings) -> SiteCoder:
    options = {
        "method": "none",
        "checks": 0.0,
        "tasks": (),
        "max_tokens": settings.max_tokens,
        "precision": settings.precision,
        "pair": None if settings.data.pair is None else PAIR.name,
        "head": settings.model.head,
    }
    return load(replace(spec, options=options))


def _tasks(settings: Settings, coder: SiteCoder) -> list[Task]:
    names = list(settings.data.labels) or [task.name for task in coder.config.tasks]
    return [coder.config.task(name) for name in names]


def _sample(settings: Settings, tasks: Sequence[str]) -> Gold:
    data = settings.data
    keys = ("path", "id", "id_scope", "text", "labels", "group", "where", "pair", *_DIALECT)
    return read_gold(
        GoldConfig(
            path=data.path,
            labels=data.labels or {task: task for task in tasks},
            id=data.id,
            text=data.text,
            id_scope=data.id_scope,
            group=data.group,
            where=data.where,
            pair=data.pair,
            keep_text=True,
            encoding=data.encoding,
            delimiter=delimiter_of(data.delimiter),
            quoting=data.quoting,
            escape=data.escape,
            names={name: f"data.{name}" for name in keys},
        )
    )


def _promise(settings: Settings) -> Promise:
    per_class = (1, " of one code") if settings.method == PER_CLASS else ()
    return Promise(settings.target, settings.confidence, *per_class)


def _about(task: Task, column: pa.ChunkedArray) -> list[str]:
    labels = column.drop_null().to_pylist()
    return about_labels(task.name, np.array(labels), {task.name: task.labels}, "data.labels") if labels else []


def _values(task: Task, column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    if not task.multi_label:
        return values
    return [None if value is None else [code for code in value.split(";") if code] for value in values]
