"""From trained weights to a checkpoint that can be used: calibration, choice of evidence method, figures, model card.

Temperature, threshold and the centres of known reports are fitted on the valid split, the evidence method is chosen there, and
every figure of the card is measured on the test split, which nothing before has seen. Only real reports are calibrated on and
measured.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.evaluation import calibration, classes
from engine.models import run
from engine.models.base import ModelSpec
from engine.models.columns import matrix
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.calibrating import Outcome, fit, outcome
from engine.models.site_classifier.checkpoint import TaskCalibration, write_checkpoint
from engine.models.site_classifier.config import ClassifierConfig, Task
from engine.models.site_classifier.decide import DecisionConfig, auto_codes
from engine.models.site_classifier.evidence import specials_mass
from engine.models.site_classifier.learner import MARKER
from engine.training.card import model_card
from engine.training.data import Survey
from engine.training.state import read_state, write_curve

Say = Callable[[str], None]
Baseline = Callable[..., Mapping[str, Any]]
Write = Callable[[Mapping[str, TaskCalibration], str, str], str]
TARGET = 0.98


def finish(
    state: Path,
    config: ClassifierConfig,
    examples: pa.Table,
    output: Path,
    *,
    found: Survey,
    everything: Callable[[], pa.Table],
    command: str,
    say: Say,
    baseline: Baseline | None = None,
    evidence_sample: int = 100,
) -> dict[str, Any]:
    """Writes the checkpoint folder `output` and returns the card's figures.

    Args:
        state: folder with `state.safetensors` of the training loop. examples: those of valid and test, as `load_examples` gives
            them. found: what is known of all. everything: loads all of them, which only the baseline needs.
        command: what reproduces the model, for the card. baseline: see `engine.benchmarks.baseline.baseline_figures`.
        evidence_sample: valid reports on which evidence methods are compared; test reports for the card, as many.
    """
    tensors, curve = read_state(state)
    tensors = {name: value for name, value in tensors.items() if not name.startswith(f"{MARKER}.")}
    pairs = frozenset(found.pairs)

    def write(calibration: Mapping[str, TaskCalibration], method: str, card: str) -> str:
        return write_checkpoint(output, config, tensors, calibration, method, pairs, card)

    return calibrated(
        write,
        ModelSpec("engine.models.site_classifier", str(output)),
        config,
        examples,
        curve,
        output,
        lambda figures: model_card(figures, config, command),
        found=found,
        everything=everything,
        say=say,
        baseline=baseline,
        evidence_sample=evidence_sample,
    )


def calibrated(
    write: Write,
    spec: ModelSpec,
    config: ClassifierConfig,
    examples: pa.Table,
    curve: Sequence[Mapping[str, Any]],
    output: Path,
    card: Callable[[Mapping[str, Any]], str],
    *,
    found: Survey,
    everything: Callable[[], pa.Table],
    say: Say,
    baseline: Baseline | None,
    evidence_sample: int,
) -> dict[str, Any]:
    """Calibrates and measures trained weights, writes them for good; returns the figures.

    Args:
        write: writes the weights with a calibration, an evidence method and a card, and returns the digest. spec: how they are
            read again. curve: of the training. output: folder for figures and curve. card: makes the card of figures. The rest as
            in `finish`.
    """
    plain = {task.name: TaskCalibration() for task in config.tasks}
    write(plain, config.evidence_methods[0], "not calibrated yet\n")
    real = examples.filter(pc.equal(examples["kind"], "real"))
    valid, test = (real.filter(pc.equal(real["split"], split)) for split in ("valid", "test"))
    coder = _coder(spec, "none")
    say(f"scoring {len(valid)} valid and {len(test)} test reports")
    scored = {name: _logits(coder, table, name, say) for name, table in (("valid", valid), ("test", test))}
    fitted = {task.name: fit(task, valid[task.name].to_pylist(), scored["valid"][task.name], TARGET) for task in config.tasks}
    figures: dict[str, Any] = {"tasks": {}, "examples": dict(found.counts), "curve": curve}
    for task in config.tasks:
        figures["tasks"][task.name] = {
            "model": _measure(task, test, scored["test"][task.name], fitted[task.name]),
            "calibration": fitted[task.name].figures,
            "codes": {"all": len(task.labels), "supported": sum(n >= DecisionConfig().min_support for n in task.support)},
            "auto_codes": auto_codes(task, fitted[task.name], DecisionConfig()),
            "baseline": _rival(baseline, everything(), test, task.name, say) if baseline and not task.multi_label else None,
        }
    write(fitted, config.evidence_methods[0], "evidence not measured yet\n")
    figures["evidence"] = _evidence(spec, config.evidence_methods, valid, test, evidence_sample, say)
    best = max(figures["evidence"]["valid"], key=lambda row: row["gain"])["method"]
    figures["evidence"]["chosen"] = best
    say(f"writing the checkpoint, with evidence by {best}")
    figures["digest"] = write(fitted, best, card(figures))
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_curve(output, curve)
    return figures


def records_of(examples: pa.Table) -> pa.Table:
    """Examples as records, their number as key."""
    return run.records_of(*(examples[name].to_pylist() for name in ("record_id", "text", "pair")))


def _coder(spec: ModelSpec, method: str, checks: float = 0.0) -> SiteCoder:
    options = {**spec.options, "method": method, "checks": checks, "pair": PAIR.name, "tasks": ()}
    return load(replace(spec, options=options))


def _logits(coder: SiteCoder, table: pa.Table, name: str, say: Say) -> dict[str, np.ndarray]:
    """Of every task, [reports, labels]; what is prepared for it is held of a thousand reports at a time."""
    parts = []
    for at in range(0, len(table), 1024):
        parts.append(coder.scores(coder.prepare(records_of(table.slice(at, 1024)))))
        say(f"scored {min(at + 1024, len(table)):,} of {len(table):,} {name} reports")
    scores = pa.concat_tables(parts)
    return {task: matrix(scores[f"{task}_logits"]) for task in coder.known()}


def _measure(task: Task, test: pa.Table, logits: np.ndarray, fitted: TaskCalibration) -> dict[str, Any]:
    found = outcome(task, test[task.name].to_pylist(), logits, fitted)
    rows = test.take(pa.array(found.rows))
    spread = classes.bootstrap_interval(lambda drawn: float(found.right[drawn].mean()), rows["group"].to_pylist())
    everything = np.ones(len(rows), dtype=bool)
    leak, source = np.array(rows["leak"].to_pylist(), dtype=bool), np.array(rows["source"].to_pylist())
    parts = {"icd_code_in_text": leak, "no_icd_code_in_text": ~leak} if leak.any() else {}
    parts |= {name: source == name for name in sorted(set(source))}
    figures = _figures(found, everything, fitted.threshold)
    if found.macro_f1 is not None:
        figures["macro_f1"] = found.macro_f1
    return figures | {
        "accuracy_low": spread.low,
        "accuracy_high": spread.high,
        "ece": calibration.expected_calibration_error(found.sure, found.right),
        "parts": {name: _figures(found, mask, fitted.threshold) for name, mask in parts.items() if mask.any()},
    }


def _figures(found: Outcome, mask: np.ndarray, threshold: float) -> dict[str, Any]:
    sure, right = found.sure[mask], found.right[mask]
    figures: dict[str, Any] = dict(classes.summary(found.gold[mask], found.predicted[mask], sure, TARGET))
    # A code that training never saw is wrong, and of a multi-label answer every yes and no must be right.
    figures["accuracy"] = float(right.mean())
    figures["keepable_share"] = classes.keepable_share(sure, right, TARGET)
    return figures | {"threshold": asdict(classes.at_threshold(sure, right, threshold))}


def _rival(baseline: Baseline, everything: pa.Table, test: pa.Table, task: str, say: Say) -> Mapping[str, Any] | None:
    fit = everything.filter(pc.equal(everything["kind"], "real"))
    fit = fit.filter(pc.and_(pc.not_equal(fit["split"], "test"), pc.is_valid(fit[task])))
    held = test.filter(pc.is_valid(test[task]))
    texts, labels = fit["text"].to_pylist(), fit[task].to_pylist()
    if len(set(labels)) < 2:
        say(f"no baseline for {task}: there is only one code")
        return None
    say(f"fitting the baseline for {task} on {len(texts):,} reports (TF-IDF, logistic regression; baseline=false leaves it out)")
    return baseline(texts, labels, held["text"].to_pylist(), held[task].to_pylist(), TARGET, held["leak"].to_pylist())


def _evidence(spec: ModelSpec, methods: Sequence[str], valid: pa.Table, test: pa.Table, sample: int, say: Say) -> dict[str, Any]:
    """Comprehensiveness beyond the random control, and cost, of every method; first task.

    Beside them the share of the attention that lies on special tokens, in no unit of the evidence.
    """
    found: dict[str, Any] = {}
    begun = 0
    for name, table in (("valid", valid), ("test", test)):
        chosen = np.random.default_rng(7).permutation(len(table))[:sample]
        records = records_of(table.take(pa.array(np.sort(chosen))))
        rows = []
        base = _timed(spec, "none", records)[1]
        for method in methods:
            begun += 1
            say(f"measuring evidence, {begun} of {2 * len(methods)}: {method} on {len(records):,} {name} reports")
            coded, seconds = _timed(spec, method, records)
            row = {"method": method, "cost": seconds / base, **_gains(coded)}
            if method == "attention":
                row["specials_mass"] = _specials(_coder(spec, "none"), records)
            rows.append(row)
        found[name] = rows
    return found


def _specials(system: SiteCoder, records: pa.Table) -> float:
    prepared = system.prepare(records)
    with torch.inference_mode():
        masses = [specials_mass(system.network, batch).cpu() for _, batch in system.batches(prepared)]
    return float(torch.cat(masses).mean())


def _timed(spec: ModelSpec, method: str, records: pa.Table) -> tuple[pa.Table, float]:
    """Rows with every one checked by erasure, and the seconds that the method takes without the checks."""
    system = _coder(spec, method)
    prepared = system.prepare(records)
    system.run(prepared.slice(0, 4))
    started = time.perf_counter()
    coded = system.run(prepared)
    seconds = time.perf_counter() - started
    return (coded if method == "none" else _coder(spec, method, checks=1.0).run(prepared)), seconds


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
