"""From trained weights to a checkpoint that can be used: calibration, choice of evidence method, figures, model card.

Temperature, threshold and energy floor are fitted on the valid split, the evidence method is chosen there, and every figure of
the card is measured on the test split, which nothing before has seen. Only real reports are calibrated on and measured.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors import safe_open
from safetensors.torch import load_file

from engine.evaluation import calibration, classes
from engine.models.base import ModelSpec
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.checkpoint import TaskCalibration, write_checkpoint
from engine.models.site_classifier.config import EVIDENCE_METHODS, ClassifierConfig
from engine.models.site_classifier.decide import probabilities
from engine.records import records_schema
from engine.training.card import model_card

Say = Callable[[str], None]
Baseline = Callable[..., Mapping[str, Any]]
TARGET = 0.98
OUTLIERS = 0.005


def finish(
    state: Path,
    config: ClassifierConfig,
    examples: pa.Table,
    output: Path,
    *,
    command: str,
    say: Say,
    baseline: Baseline | None = None,
    evidence_sample: int = 100,
) -> dict[str, Any]:
    """Writes the checkpoint folder `output` and returns the card's figures.

    Args:
        state: folder with `state.safetensors` of the training loop. examples: as `load_examples` gave them.
        command: what reproduces the model, for the card. baseline: see `engine.benchmarks.baseline.baseline_figures`.
        evidence_sample: valid reports on which evidence methods are compared; test reports for the card, as many.
    """
    path = state / "state.safetensors"
    tensors = {name.removeprefix("weight/"): value for name, value in load_file(path).items() if name.startswith("weight/")}
    with safe_open(path, "pt") as file:
        curve = json.loads(file.metadata()["place"])["curve"]
    pairs = _pairs(examples, [task.name for task in config.tasks])
    plain = {task.name: TaskCalibration() for task in config.tasks}
    write_checkpoint(output, config, tensors, plain, "pooling", pairs, "not calibrated yet\n")
    real = examples.filter(pc.equal(examples["kind"], "real"))
    valid, test = (real.filter(pc.equal(real["split"], split)) for split in ("valid", "test"))
    coder = _coder(output, "none")
    say(f"scoring {len(valid)} valid and {len(test)} test reports")
    scored = {name: _logits(coder, table) for name, table in (("valid", valid), ("test", test))}
    fitted = {task.name: _fit(task.name, config, valid, scored["valid"][task.name]) for task in config.tasks}
    figures: dict[str, Any] = {"tasks": {}, "examples": _counts(examples), "curve": curve}
    for task in config.tasks:
        say(f"measuring {task.name}")
        figures["tasks"][task.name] = {
            "model": _measure(task.name, config, test, scored["test"][task.name], fitted[task.name]),
            "calibration": fitted[task.name].figures,
            "baseline": _rival(baseline, real, test, task.name) if baseline else None,
        }
    write_checkpoint(output, config, tensors, fitted, "pooling", pairs, "evidence not measured yet\n")
    figures["evidence"] = _evidence(output, valid, test, evidence_sample, say)
    best = max(figures["evidence"]["valid"], key=lambda row: row["gain"])["method"]
    figures["evidence"]["chosen"] = best
    digest = write_checkpoint(output, config, tensors, fitted, best, pairs, model_card(figures, config, command))
    figures["digest"] = digest
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def records_of(examples: pa.Table) -> pa.Table:
    """Examples as records, their number as key."""
    count = len(examples)
    return pa.table(
        {
            "row": pa.array(range(count), pa.int32()),
            "record_id": examples["record_id"],
            "source": examples["source"],
            "position": pa.array(range(count), pa.int64()),
            "text": examples["text"].cast(pa.large_string()),
            "failure": pa.nulls(count, records_schema().field("failure").type),
            "keep": pa.nulls(count, pa.struct([])),
        },
        schema=records_schema(),
    )


def _coder(folder: Path, method: str, checks: float = 0.0) -> SiteCoder:
    options = {"method": method, "checks": checks}
    return load(ModelSpec("engine.models.site_classifier", str(folder), options, {}))


def _logits(coder: SiteCoder, table: pa.Table) -> dict[str, np.ndarray]:
    return coder.logits(coder.prepare(records_of(table)))


def _gold(table: pa.Table, task: str, config: ClassifierConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are labelled, and the label's column (-1: a code that training never saw) of each labelled one."""
    index = {label: number for number, label in enumerate(config.task(task).labels)}
    values = table[task].to_pylist()
    known = np.array([value is not None for value in values])
    return known, np.array([index.get(value, -1) for value in values if value is not None])


def _fit(task: str, config: ClassifierConfig, valid: pa.Table, logits: np.ndarray) -> TaskCalibration:
    known, target = _gold(valid, task, config)
    logits = logits[known]
    t = calibration.temperature(logits, target)
    before, after = (probabilities(logits, x, False) for x in (1.0, t))
    right = after.argmax(-1) == target
    cut = calibration.fit_threshold(after.max(-1), right, TARGET)
    floor = float(np.quantile(np.logaddexp.reduce(logits.astype(np.float64), axis=-1), OUTLIERS))
    figures = {
        "fitted_on": "valid",
        "n": int(known.sum()),
        "ece_before": calibration.expected_calibration_error(before.max(-1), right),
        "ece_after": calibration.expected_calibration_error(after.max(-1), right),
        **asdict(cut),
    }
    return TaskCalibration(t, cut.threshold, floor, figures)


def _measure(task: str, config: ClassifierConfig, test: pa.Table, logits: np.ndarray, fitted: TaskCalibration) -> dict[str, Any]:
    known, target = _gold(test, task, config)
    rows = test.filter(pa.array(known))
    prob = probabilities(logits[known], fitted.temperature, False)
    labels = np.array(config.task(task).labels)
    predicted, gold = labels[prob.argmax(-1)], np.array(rows[task].to_pylist())
    sure, right = prob.max(-1), prob.argmax(-1) == target
    groups = rows["group"].to_pylist()
    spread = classes.bootstrap_interval(lambda drawn: float(right[drawn].mean()), groups)
    kept = classes.at_threshold(sure, right, fitted.threshold)
    found: dict[str, Any] = {
        **classes.summary(gold, predicted, sure, TARGET),
        "accuracy_low": spread.low,
        "accuracy_high": spread.high,
        "threshold": asdict(kept),
        "ece": calibration.expected_calibration_error(sure, right),
    }
    parts = {"icd_code_in_text": np.array(rows["leak"].to_pylist(), dtype=bool)}
    parts["no_icd_code_in_text"] = ~parts["icd_code_in_text"]
    parts |= {name: np.array(rows["source"].to_pylist()) == name for name in sorted(set(rows["source"].to_pylist()))}
    found["parts"] = {
        name: {
            **classes.summary(gold[m], predicted[m], sure[m], TARGET),
            "threshold": asdict(classes.at_threshold(sure[m], right[m], fitted.threshold)),
        }
        for name, m in parts.items()
        if m.any()
    }
    return found


def _rival(baseline: Baseline, real: pa.Table, test: pa.Table, task: str) -> Mapping[str, Any]:
    fit = real.filter(pc.and_(pc.not_equal(real["split"], "test"), pc.is_valid(real[task])))
    held = test.filter(pc.is_valid(test[task]))
    texts, labels = fit["text"].to_pylist(), fit[task].to_pylist()
    return baseline(texts, labels, held["text"].to_pylist(), held[task].to_pylist(), TARGET, held["leak"].to_pylist())


def _evidence(output: Path, valid: pa.Table, test: pa.Table, sample: int, say: Say) -> dict[str, Any]:
    """Comprehensiveness beyond the random control, and cost, of every method; first task."""
    found: dict[str, Any] = {}
    for name, table in (("valid", valid), ("test", test)):
        chosen = np.random.default_rng(7).permutation(len(table))[:sample]
        records = records_of(table.take(pa.array(np.sort(chosen))))
        rows = []
        base = _timed(output, "none", records)[1]
        for method in EVIDENCE_METHODS:
            say(f"evidence by {method} on {len(records)} {name} reports")
            coded, seconds = _timed(output, method, records)
            rows.append({"method": method, "cost": seconds / base, **_gains(coded)})
        found[name] = rows
    return found


def _timed(output: Path, method: str, records: pa.Table) -> tuple[pa.Table, float]:
    quick = _coder(output, method)
    prepared = quick.prepare(records)
    quick.run(prepared.slice(0, 4))
    started = time.perf_counter()
    coded = quick.run(prepared)
    seconds = time.perf_counter() - started
    if method != "none":
        coded = replace_checks(output, method, prepared)
    return coded, seconds


def replace_checks(output: Path, method: str, prepared: pa.Table) -> pa.Table:
    """The rows with every one of them checked by erasure."""
    return _coder(output, method, checks=1.0).run(prepared)


def _gains(coded: pa.Table) -> dict[str, float]:
    task = next(name for name in coded.column_names if name.endswith("_evidence")).removesuffix("_evidence")
    value = {
        key: np.array(coded[f"{task}_{key}"].to_pylist(), float)
        for key in ("comprehensiveness", "random_comprehensiveness", "sufficiency", "random_sufficiency")
    }
    means = {key: float(values.mean()) for key, values in value.items()}
    return {
        **means,
        "gain": means["comprehensiveness"] - means["random_comprehensiveness"],
        "sufficiency_gain": means["random_sufficiency"] - means["sufficiency"],
    }


def _pairs(examples: pa.Table, tasks: list[str]) -> frozenset[tuple[str, str]]:
    if len(tasks) < 2:
        return frozenset()
    train = examples.filter(pc.equal(examples["split"], "train"))
    both = zip(train[tasks[0]].to_pylist(), train[tasks[1]].to_pylist(), strict=True)
    return frozenset((first, second) for first, second in both if first is not None and second is not None)


def _counts(examples: pa.Table) -> dict[str, int]:
    counted = examples.group_by(["kind", "split"]).aggregate([([], "count_all")]).to_pylist()
    return {f"{row['kind']} {row['split']}": row["count_all"] for row in counted}
