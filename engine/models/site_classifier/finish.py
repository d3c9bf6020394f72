"""Makes a written checkpoint usable: calibration, choice of the evidence method, figures.

Temperature, threshold and the centres of known reports are fitted on the valid split, and the evidence method is chosen there.
Every figure of the card is measured on the test split, which no step before has used. Only real reports serve for both.
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
from engine.models.code_calibrating import fit, score_reports
from engine.models.code_figures import TARGET, measured
from engine.models.code_task import Task
from engine.models.run import PAIR
from engine.models.site_classifier import SiteCoder, load
from engine.models.site_classifier.checkpoint import write_calibration
from engine.models.site_classifier.evidence import specials_mass


def settle(spec: ModelSpec, tasks: Sequence[Task], valid: pa.Table, say: Say, sample: int) -> dict[str, Any]:
    """Fits temperatures, thresholds and centres, then chooses the evidence method, all on valid, and writes both to the
    checkpoint of `spec`.

    Args:
        valid: real reports, as `ReportSurvey` gives them. sample: the number of them on which evidence methods are compared.
    Returns:
        `calibration` by task, and under `evidence` the figures of each method on `valid` and the name of the `chosen` one.
    """
    coder = _coder(spec, "none")
    say(f"scoring {len(valid):,} valid reports")
    table, logits = score_reports(coder, valid, say, " valid reports")
    fitted = {task.name: fit(task, table[task.name].to_pylist(), logits[task.name], TARGET) for task in tasks}
    methods = coder.config.evidence_methods
    write_calibration(Path(spec.path), spec.options.get("head"), fitted, methods[0])
    rows = _evidence(spec, methods, valid, "valid", sample, say)
    best = max(rows, key=lambda row: row["gain"])["method"]
    say(f"writing the checkpoint, with evidence by {best}")
    write_calibration(Path(spec.path), spec.options.get("head"), fitted, best)
    return {"calibration": fitted, "evidence": {"valid": rows, "chosen": best}}


def measure(
    spec: ModelSpec,
    settled: Mapping[str, Any],
    test: pa.Table,
    everything: Callable[[], pa.Table],
    say: Say,
    *,
    with_baseline: bool,
    sample: int,
) -> dict[str, Any]:
    """The figures of a settled checkpoint on test.

    Args:
        settled: from `settle`. test: real reports. everything: loads all examples, which only the baseline needs.
        sample: the number of test reports on which evidence methods are compared.
    """
    coder = _coder(spec, "none")
    say(f"scoring {len(test):,} test reports")
    table, logits = score_reports(coder, test, say, " test reports")
    tasks = {}
    for task in coder.config.tasks:
        fitted = settled["calibration"][task.name]
        rival = _rival(everything(), test, task.name, say) if with_baseline and not task.multi_label else None
        tasks[task.name] = measured(task, table, logits[task.name], fitted, rival)
    evidence = {**settled["evidence"], "test": _evidence(spec, coder.config.evidence_methods, test, "test", sample, say)}
    return {"tasks": tasks, "evidence": evidence}


def records_of(examples: pa.Table) -> pa.Table:
    """Examples as records; their keys are the row numbers."""
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
    """For every method its comprehensiveness beyond the random control, on the first task, and its cost; for `attention` also the
    share that lies on special tokens, which are no unit of the evidence."""
    chosen = np.random.default_rng(7).permutation(len(reports))[:sample]
    records = records_of(reports.take(pa.array(np.sort(chosen))))
    rows = []
    base = _timed(spec, "none", records)[1]
    for number, method in enumerate(methods, start=1 if name == "valid" else 1 + len(methods)):
        say(f"measuring evidence, {number} of {2 * len(methods)}: {method} on {len(records):,} {name} reports")
        coded, seconds = _timed(spec, method, records)
        row = {"method": method, "cost": seconds / base, **_gains(coded)}
        if method == "attention":
            plain = _coder(spec, "none")
            with torch.inference_mode():
                masses = [specials_mass(plain.network, batch).cpu() for _, batch in plain.batches(plain.prepare(records))]
            row["specials_mass"] = float(torch.cat(masses).mean())
        rows.append(row)
    return rows


def _timed(spec: ModelSpec, method: str, records: pa.Table) -> tuple[pa.Table, float]:
    """Rows that are all checked by erasure, and the seconds that the method takes without the checks."""
    system = _coder(spec, method)
    prepared = system.prepare(records)
    system.run(prepared.slice(0, 4))
    started = time.perf_counter()
    coded = system.run(prepared)
    seconds = time.perf_counter() - started
    return (coded if method == "none" else _coder(spec, method, checks=1.0).run(prepared)), seconds


def _gains(coded: pa.Table) -> dict[str, float]:
    task = next(name for name in coded.column_names if name.endswith("_evidence")).removesuffix("_evidence")
    names = ("comprehensiveness", "random_comprehensiveness", "sufficiency", "random_sufficiency")
    means = {name: float(np.array(coded[f"{task}_{name}"].to_pylist(), float).mean()) for name in names}
    return {
        **means,
        "gain": means["comprehensiveness"] - means["random_comprehensiveness"],
        "sufficiency_gain": means["random_sufficiency"] - means["sufficiency"],
    }
