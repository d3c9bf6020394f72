"""From a written checkpoint to one that can be used: calibration, choice of evidence method, figures.

Temperature, threshold and the centres of known reports are fitted on the valid split, the evidence method is chosen there, and
every figure of the card is measured on the test split, which nothing before has seen. Only real reports are calibrated on and
measured.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.evaluation.baseline import baseline_figures
from engine.models import run
from engine.models.base import ModelSpec, Say
from engine.models.code_calibrating import fit, scored
from engine.models.code_figures import TARGET, measured
from engine.models.code_task import Task
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.checkpoint import write_settled
from engine.models.site_classifier.evidence import specials_mass


def settle(spec: ModelSpec, tasks: Sequence[Task], valid: pa.Table, say: Say, sample: int = 100) -> dict[str, Any]:
    """Fits temperatures, thresholds and centres, then chooses the evidence method, all on valid, and writes both to the
    checkpoint of `spec`.

    Args:
        valid: real reports, as `ReportSurvey` gives them. sample: as many of them compare the evidence methods.
    Returns:
        `calibration` by task, and under `evidence` what each method was worth on valid and which is `chosen`.
    """
    coder = _coder(spec, "none")
    say(f"scoring {len(valid):,} valid reports")
    table, logits = scored(coder, valid, say, " valid reports")
    fitted = {task.name: fit(task, table[task.name].to_pylist(), logits[task.name], TARGET) for task in tasks}
    methods = coder.config.evidence_methods
    write_settled(Path(spec.path), spec.options.get("head"), fitted, methods[0])
    found = _evidence(spec, methods, valid, "valid", sample, say)
    best = max(found, key=lambda row: row["gain"])["method"]
    say(f"writing the checkpoint, with evidence by {best}")
    write_settled(Path(spec.path), spec.options.get("head"), fitted, best)
    return {"calibration": fitted, "evidence": {"valid": found, "chosen": best}}


def measure(
    spec: ModelSpec,
    found: Mapping[str, Any],
    test: pa.Table,
    everything: Callable[[], pa.Table],
    say: Say,
    *,
    with_baseline: bool = False,
    sample: int = 100,
) -> dict[str, Any]:
    """The figures of a settled checkpoint on test.

    Args:
        found: what `settle` gave. test: real reports. everything: loads all examples, which only the baseline needs.
        sample: as many test reports compare the evidence methods.
    """
    coder = _coder(spec, "none")
    say(f"scoring {len(test):,} test reports")
    table, logits = scored(coder, test, say, " test reports")
    tasks = {}
    for task in coder.config.tasks:
        fitted = found["calibration"][task.name]
        rival = _rival(everything(), test, task.name, say) if with_baseline and not task.multi_label else None
        tasks[task.name] = measured(task, table, logits[task.name], fitted, rival)
    evidence = {**found["evidence"], "test": _evidence(spec, coder.config.evidence_methods, test, "test", sample, say)}
    return {"tasks": tasks, "evidence": evidence}


def records_of(examples: pa.Table) -> pa.Table:
    """Examples as records, their number as key."""
    return run.records_of(*(examples[name].to_pylist() for name in ("record_id", "text", "pair")))


def _coder(spec: ModelSpec, method: str, checks: float = 0.0) -> SiteCoder:
    options = {**spec.options, "method": method, "checks": checks, "pair": PAIR.name, "tasks": ()}
    return load(replace(spec, options=options))


def _rival(everything: pa.Table, test: pa.Table, task: str, say: Say) -> Mapping[str, Any] | None:
    fit = everything.filter(pc.equal(everything["kind"], "real"))
    fit = fit.filter(pc.and_(pc.not_equal(fit["split"], "test"), pc.is_valid(fit[task])))
    held = test.filter(pc.is_valid(test[task]))
    texts, labels = fit["text"].to_pylist(), fit[task].to_pylist()
    if len(set(labels)) < 2:
        say(f"no baseline for {task}: there is only one code")
        return None
    say(f"fitting the baseline for {task} on {len(texts):,} reports (TF-IDF, logistic regression; baseline=false leaves it out)")
    return baseline_figures(texts, labels, held["text"].to_pylist(), held[task].to_pylist(), TARGET, held["leak"].to_pylist())


def _evidence(
    spec: ModelSpec, methods: Sequence[str], reports: pa.Table, name: str, sample: int, say: Say
) -> list[dict[str, Any]]:
    """Comprehensiveness beyond the random control, and cost, of every method; first task.

    Beside them the share of the attention that lies on special tokens, in no unit of the evidence.
    """
    chosen = np.random.default_rng(7).permutation(len(reports))[:sample]
    records = records_of(reports.take(pa.array(np.sort(chosen))))
    rows = []
    base = _timed(spec, "none", records)[1]
    for number, method in enumerate(methods, start=1 if name == "valid" else 1 + len(methods)):
        say(f"measuring evidence, {number} of {2 * len(methods)}: {method} on {len(records):,} {name} reports")
        coded, seconds = _timed(spec, method, records)
        row = {"method": method, "cost": seconds / base, **_gains(coded)}
        if method == "attention":
            row["specials_mass"] = _specials(_coder(spec, "none"), records)
        rows.append(row)
    return rows


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
