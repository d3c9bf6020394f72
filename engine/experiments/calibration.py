"""What calibration does: how honest the probabilities are before and after it, and what is coded without a person on test.

Everything is fitted on the valid split and measured on test. An arm is a task under one calibration: none at all, a temperature,
a temperature with an isotonic curve, and the checkpoint's own as it stands. Kept is a report whose probability reaches the
threshold; the other grounds for review (rare codes, odd wording) are left aside, and so is what other tasks say.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.encoders import pick_precision
from engine.errors import ConfigError
from engine.evaluation.calibration import brier, expected_calibration_error, fit_threshold
from engine.evaluation.classes import bootstrap_interval, keepable_share
from engine.evaluation.resample import Totals, ratio
from engine.experiments.run import Arm, Result, Say
from engine.models.base import ModelSpec
from engine.models.code_calibrate import ISOTONIC, TEMPERATURE
from engine.models.code_calibrating import Outcome, fit, outcome
from engine.models.code_decide import adjusted, probabilities
from engine.models.code_task import Task, TaskCalibration
from engine.models.columns import matrix
from engine.models.site_classifier import load
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.models.site_classifier.finish import records_of
from engine.storage import whole_file

if TYPE_CHECKING:
    from engine.models.site_classifier.coder import SiteCoder

NONE, OWN, RIVAL = "uncalibrated", "checkpoint", "tfidf"
WAYS = (NONE, TEMPERATURE, ISOTONIC, OWN)
FITTED_ON, MEASURED_ON = "valid", "test"


@dataclass(frozen=True)
class CalibrationConfig:
    """What is measured: the tasks of `labels`, for `target` of the kept reports right, with `confidence`."""

    path: str
    model: str = "shipped"
    id: str = "record_id"
    text: str = "text"
    split: str = "split"
    group: str = "patient_id"
    labels: Mapping[str, str] = field(default_factory=lambda: {"site": "site", "histology": "histology"})
    target: float = 0.98
    confidence: float = 0.95
    rounds: int = 1000
    threads: int = 0


class Calibration:
    """See `engine.experiments.run.Experiment`."""

    name = "explain/calibration"

    def __init__(self, config: CalibrationConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        config = self.config
        counts = {f"{split}_reports": len(table) for split, table in self._splits.items()}
        columns = {name: getattr(config, name) for name in ("id", "text", "split", "group")}
        read = {"columns": {**columns, **config.labels}, "data_digest": self._digest}
        same = {name: value for name, value in asdict(config).items() if name in ("target", "confidence", "rounds")}
        model = {"model_digest": self._coder.digest, "precision": str(pick_precision("auto", "cpu"))}
        return {"tasks": list(config.labels), **read, **same, **counts, **model}

    def arms(self) -> Sequence[Arm]:
        names = []
        for task in self.config.labels:
            names += [f"{task}-{way}" for way in WAYS]
            if self._rival(task):
                names.append(f"{task}-{RIVAL}")
        return [Arm(name) for name in names]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        name, _, way = arm.name.rpartition("-")
        if way == RIVAL:
            return self._told(name)
        task = self._task(name)
        logits = {split: self._logits(split, work, say)[name] for split in (FITTED_ON, MEASURED_ON)}
        values = {split: table[name].to_pylist() for split, table in self._splits.items()}
        fitted = self._fitted(task, way, values[FITTED_ON], logits[FITTED_ON])
        found = outcome(task, values[MEASURED_ON], logits[MEASURED_ON], fitted)
        if not len(found.rows):
            raise ConfigError(f"data.labels: no report of {MEASURED_ON} has a label for {name}")
        groups = self._splits[MEASURED_ON]["group"].take(pa.array(found.rows)).to_pylist()
        return self._measured(found, fitted, groups)

    @cached_property
    def _coder(self) -> "SiteCoder":
        options = {"method": "none", "tasks": ()}
        return load(ModelSpec("engine.models.site_classifier", self.config.model, options, {"threads": self.config.threads}))

    @cached_property
    def _splits(self) -> Mapping[str, pa.Table]:
        names = ("path", "id", "text", "split", "group", "labels")
        examples = ReportSurvey.of(DataConfig(**{name: getattr(self.config, name) for name in names})).examples()
        found = {split: examples.filter(pc.equal(examples["split"], split)) for split in (FITTED_ON, MEASURED_ON)}
        for split, table in found.items():
            if not len(table):
                raise ConfigError(f"data.split: no labelled report of {split}; calibration is fitted on valid, measured on test")
        return found

    def _task(self, name: str) -> Task:
        task = self._coder.config.task(name)
        if task.multi_label:
            raise ConfigError(f"data.labels: {name} gives several codes a report; only tasks with one are measured")
        return task

    def _logits(self, split: str, work: Path, say: Say) -> Mapping[str, NDArray]:
        """Of every task, [reports, labels]; all arms share them."""
        file = self._file(split, work)
        if not file.is_file():
            table = self._splits[split]
            say(f"predicting {len(table)} reports of {split}")
            scores = self._coder.scores(self._coder.prepare(records_of(table)))
            found = {name: matrix(scores[f"{name}_logits"]) for name in self._coder.known()}
            with whole_file(file) as part, open(part, "wb") as stream:
                np.savez(stream, **found)
        with np.load(file) as found:
            return {name: found[name] for name in self.config.labels}

    def _file(self, split: str, work: Path) -> Path:
        # Logits belong to reports by their row, so the file is of these very reports.
        return work / f"logits-{split}-{self._digest[:12]}.npz"

    @cached_property
    def _digest(self) -> str:
        """The SHA-256 of everything that is read, row by row."""
        digest = hashlib.sha256()
        for table in self._splits.values():
            for row in table.select(["record_id", "text", "split", "group", *self.config.labels]).to_pylist():
                digest.update(json.dumps(list(row.values())).encode())
        return digest.hexdigest()

    def _fitted(self, task: Task, way: str, values: Sequence[Any], logits: NDArray) -> TaskCalibration:
        config = self.config
        if way == OWN:
            return self._coder.checkpoint.calibration.get(task.name, TaskCalibration())
        if way != NONE:
            return fit(task, values, logits, config.target, config.confidence, way)
        raw = outcome(task, values, logits, TaskCalibration())
        return TaskCalibration(1.0, fit_threshold(raw.sure, raw.right, config.target, config.confidence).threshold)

    def _measured(self, found: Outcome, fitted: TaskCalibration, groups: Sequence[str]) -> list[Result]:
        n, rounds = len(found.rows), self.config.rounds
        cuts = [(fitted.class_thresholds or {}).get(str(code), fitted.threshold) for code in found.predicted]
        kept = found.sure >= np.array(cuts)
        prob = adjusted(probabilities(found.scores, fitted.temperature, False), fitted)
        columns = {"n": np.ones(n), "right": found.right, "kept": kept, "kept_right": kept & found.right}
        shares = {"accuracy": ("right", "n"), "coverage": ("kept", "n"), "accuracy_kept": ("kept_right", "kept")}
        estimates = Totals(groups, columns).estimates({name: ratio(*parts) for name, parts in shares.items()}, rounds)

        def drawn(name: str, figure: Callable[[NDArray], float]) -> Result:
            low, high = bootstrap_interval(figure, groups, rounds)
            return Result(name, figure(np.arange(n)), low, high, n)

        def share(name: str) -> Result:
            one = estimates[name]
            return Result(name, one.value, one.low, one.high, int(kept.sum()) if name == "accuracy_kept" else n)

        return [
            share("accuracy"),
            drawn("ece", lambda rows: expected_calibration_error(found.sure[rows], found.right[rows])),
            drawn("brier", lambda rows: brier(prob[rows], found.targets[rows])),
            Result("temperature", fitted.temperature, n=n),
            Result("threshold", None if fitted.threshold > 1 else fitted.threshold, n=n),
            share("coverage"),
            share("accuracy_kept"),
            Result("coverage_best", keepable_share(found.sure, found.right, self.config.target), n=n),
        ]

    def _rival(self, task: str) -> Mapping[str, Any]:
        """The figures of the plain rival that the checkpoint brings along, if they are of these reports."""
        file = self._coder.checkpoint.folder / "figures.json"
        figures = json.loads(file.read_text()) if file.is_file() else {}
        found = (figures.get("tasks", {}).get(task) or {}).get("baseline") or {}
        labelled = len(self._splits[MEASURED_ON]) - self._splits[MEASURED_ON][task].null_count
        return found if figures.get("digest") == self._coder.digest and found.get("n") == labelled else {}

    def _told(self, task: str) -> list[Result]:
        rival = self._rival(task)
        note = "of TF-IDF with logistic regression; the checkpoint's own figures tell it, for as many test reports"
        return [
            Result("accuracy", rival["accuracy"], n=rival["n"], note=note),
            Result("coverage_best", rival["keepable_share"], n=rival["n"], note=note),
        ]
