"""Every method of explanation on the same test reports: how faithful, how stable, and at what cost beside a prediction.

Explained is what the model answers, by words, or by sentences for an arm whose name ends so. Explanations are made in fp32;
copies with units erased are asked in the arithmetic that the hardware is quick in: for the measures, and for methods
that erase sentences. A cost is the time of explaining one task's answers over that of predicting the same reports
in the same arithmetic with the same threads, both measured in turns, a few reports at a time.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.encoders import pick_precision
from engine.errors import ConfigError
from engine.evaluation.resample import Estimate, Totals, ratio
from engine.experiments.run import Arm, Result, Say
from engine.explain.explain import explained, work_for
from engine.explain.explanation import OK, Explanation
from engine.explain.faithfulness import Reference, faithfulness, reference
from engine.explain.gradients import at_baseline, baseline_kind
from engine.explain.settings import Measures, Settings
from engine.explain.stability import perturbed, stability
from engine.models.base import ModelSpec
from engine.models.site_classifier import load
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.corpus import ReportSurvey
from engine.models.site_classifier.finish import records_of
from engine.records import seed_of
from engine.text.units import Units, sentences

if TYPE_CHECKING:
    from torch import Tensor

    from engine.explain.passes import Work
    from engine.models.code_explainable import Reports
    from engine.models.site_classifier.attributable import SiteExplainable
    from engine.models.site_classifier.coder import SiteCoder

WORD, SENTENCE = "word", "sentence"
CONTROL = "random_units"
YARDSTICK = "integrated_gradients"
# A pass or more for each word, step or changed copy.
SLOW = frozenset({"integrated_gradients", "occlusion", "fused"})
ERASING = frozenset({"occlusion", "lime", "kernel_shap"})
BY_WORD = (
    "integrated_gradients",
    "pooling",
    "attnlrp",
    "attention",
    "gradient_x_input",
    "grad_l2",
    "random",
    "occlusion",
    "fused",
)
BY_SENTENCE = ("pooling", "attnlrp", "occlusion", "lime", "kernel_shap")
_TOGETHER = 10
_SYSTEM = "engine.models.site_classifier"


@dataclass(frozen=True)
class MethodsConfig:
    """What is explained and measured.

    `records` test reports are drawn, each site getting its share; of these `slow_records` for methods of a pass or more a word or
    step, `dear_records` for everything by sentence. Of an arm's own, `steady_records` are explained again as `perturbations`
    copies, or `steady_slow_records` by a slow method or one that erases. `max_tokens` are read of a report. `labels` names one
    task, the one that is explained. `erased_in` is the arithmetic in which erased copies are asked.
    """

    path: str
    model: str = "shipped"
    id: str = "record_id"
    text: str = "text"
    split: str = "split"
    group: str = "patient_id"
    labels: Mapping[str, str] = field(default_factory=lambda: {"site": "site"})
    records: int = 150
    slow_records: int = 60
    dear_records: int = 30
    steady_records: int = 20
    steady_slow_records: int = 4
    perturbations: int = 4
    steps: int = 50
    max_tokens: int = 16384
    draws: int = 5
    rounds: int = 1000
    threads: int = 0
    erased_in: str = "auto"

    def __post_init__(self) -> None:
        if len(self.labels) != 1:
            raise ConfigError("data.labels: name the one task that is explained, such as {site: site_code}")


class Methods:
    """See `engine.experiments.run.Experiment`."""

    name = "explain/methods"

    def __init__(self, config: MethodsConfig) -> None:
        self.config = config
        (self.task,) = config.labels

    def settings(self) -> Mapping[str, Any]:
        elsewhere = ("path", "model", "id", "text", "split", "group", "labels")
        sizes = {name: value for name, value in asdict(self.config).items() if name not in elsewhere}
        told = {"task": self.task, "model_digest": self._coder.digest, "data_digest": _digest(self._sample)}
        return {**sizes, **told, "erased_in": str(pick_precision(self.config.erased_in, "cpu"))}

    def arms(self) -> Sequence[Arm]:
        names = [f"{CONTROL}-{WORD}", *(f"{method}-{WORD}" for method in BY_WORD)]
        names += [f"{CONTROL}-{SENTENCE}", *(f"{method}-{SENTENCE}" for method in BY_SENTENCE)]
        return [Arm(name) for name in names]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        method, _, kind = arm.name.rpartition("-")
        if method == CONTROL:
            return self._control(kind, work / f"{arm.name}.parquet", say)
        rows, times = self._explained(method, kind, work, say)
        costs = {f"cost{name}": times["explain", name] / times["predict", name] for name in ("", "_cpu")}
        pq.write_table(pa.Table.from_pylist(rows), work / f"{arm.name}.parquet")
        (work / f"{arm.name}.json").write_text(json.dumps(costs))
        told = [Result(name, value, n=len(rows)) for name, value in costs.items()]
        return [*self._figures(rows), *told, *self._beside(arm.name, rows, costs, work)]

    @cached_property
    def _sample(self) -> pa.Table:
        config = self.config
        names = ("path", "id", "text", "split", "group", "labels")
        examples = ReportSurvey.of(DataConfig(**{name: getattr(config, name) for name in names})).examples()
        test = examples.filter(pc.and_(pc.equal(examples["split"], "test"), pc.is_valid(examples[self.task])))
        if not len(test):
            raise ConfigError("data.split: no report of test has a label; the methods are compared on such reports")
        return stratified(test, self.task, config.records)

    def _load(self, precision: str) -> "SiteCoder":
        options = {"method": "none", "tasks": (), "precision": precision, "max_tokens": self.config.max_tokens}
        return load(ModelSpec(_SYSTEM, self.config.model, options, {"threads": self.config.threads}))

    @cached_property
    def _coder(self) -> "SiteCoder":
        return self._load("fp32")

    @cached_property
    def _models(self) -> "tuple[SiteExplainable, SiteExplainable]":
        """The model that is explained, and the one that is asked about erased copies."""
        from engine.models.site_classifier.attributable import SiteExplainable

        return SiteExplainable(self._coder, self.task), SiteExplainable(self._load(self.config.erased_in), self.task)

    @cached_property
    def _prepared(self) -> pa.Table:
        prepared = self._coder.prepare(records_of(self._sample))
        failed = len(prepared) - prepared["failure"].null_count
        if failed:
            raise ConfigError(f"data.path: {failed} of the test reports drawn have no text; leave such reports out")
        return prepared

    def _members(self, method: str, kind: str) -> NDArray:
        """Places in the sample of the reports of an arm."""
        there = len(self._sample)
        wanted = self.config.dear_records if kind == SENTENCE else self.config.slow_records if method in SLOW else there
        return spread(min(wanted, there), there)

    def _reports(self, members: Sequence[int], kind: str) -> "tuple[Reports, Sequence[Units]]":
        from engine.models.code_explainable import reports

        batch = reports(self._prepared.take(pa.array(members)))
        if kind == WORD:
            return batch, batch.words
        texts = self._sample["text"].take(pa.array(members)).to_pylist()
        return batch, [words.merged(SENTENCE, *sentences(text)) for words, text in zip(batch.words, texts, strict=True)]

    def _explains(self, method: str, kind: str) -> "SiteExplainable":
        return self._models[kind == SENTENCE and method in ERASING]

    def _work(self, model: "SiteExplainable", members: Sequence[int], kind: str, residual: bool = True) -> "Work":
        """Reports and the answers to them before a model; the answers are those in fp32 whatever the model."""
        batch, units = self._reports(members, kind)
        return work_for(model, batch, self._answers[list(members)], self._settings(residual), units)

    @cached_property
    def _answers(self) -> "Tensor":
        """What is explained of each report of the sample, [reports]."""
        import torch

        answered = [self._models[0].predicted(self._reports(some, WORD)[0]) for some in _chunks(np.arange(len(self._sample)))]
        return torch.cat(answered)

    def _settings(self, residual: bool) -> Settings:
        config = self.config
        return Settings(
            tokens_per_pass=self._coder.budget, residual=residual, steps=config.steps, perturbations=config.perturbations
        )

    @property
    def _measures(self) -> Measures:
        return Measures(draws=self.config.draws)

    def _control(self, kind: str, file: Path, say: Say) -> list[Result]:
        """What erasing units at random does, kept for every method."""
        rows: list[dict[str, Any]] = []
        members = self._members(CONTROL, kind)
        for some in _chunks(members):
            found = reference(self._work(self._models[1], some, kind), self._measures)
            for place, member in enumerate(some):
                values = {name: getattr(found, name)[place].tolist() for name in ("whole", "bare", "comp", "suff")}
                rows.append({"member": member, **self._whose(member), **values, "ok": True})
            say(f"{CONTROL} by {kind}: {len(rows)} of {len(members)} reports")
        pq.write_table(pa.Table.from_pylist(rows), file)
        means = [{**row, "comp": np.mean(row["comp"]), "suff": np.mean(row["suff"])} for row in rows]
        names = {"comprehensiveness": "comp", "sufficiency": "suff"}
        return [self._result(name, means, {column: 1.0}) for name, column in names.items()]

    def _explained(
        self, method: str, kind: str, work: Path, say: Say
    ) -> tuple[list[dict[str, Any]], Mapping[tuple[str, str], float]]:
        """A row of measures for each report, and the seconds of predicting and explaining, by wall clock and by processor."""
        members = self._members(method, kind)
        control = {row["member"]: row for row in pq.read_table(work / f"{CONTROL}-{kind}.parquet").to_pylist()}
        slow = method in SLOW | ERASING
        wanted = self.config.steady_slow_records if slow else self.config.steady_records
        steady = set(members[spread(min(wanted, len(members)), len(members))].tolist())
        model = self._explains(method, kind)
        # What a residual takes, two passes, is nothing to a slow method and would be half of the cost of a quick one.
        self._time(self._work(model, members[:1].tolist(), kind, slow), method, members[:1].tolist())
        times: dict[tuple[str, str], float] = dict.fromkeys(((a, b) for a in ("predict", "explain") for b in ("", "_cpu")), 0.0)
        rows: list[dict[str, Any]] = []
        for some in _chunks(members):
            explains = self._work(model, some, kind, slow)
            found, seconds = self._time(explains, method, some)
            times = {name: times[name] + seconds[name] for name in times}
            found = found if slow else with_residuals(explains, method, found)
            shared = _shared([control[member] for member in some])
            faithful = faithfulness(self._work(self._models[1], some, kind), found, self._measures, shared)
            again = [place for place, member in enumerate(some) if member in steady]
            steadiness = _steadiness(explains, method, found, again) if again else {}
            for place, (member, one, faith) in enumerate(zip(some, found, faithful, strict=True)):
                checks = {} if faith is None else faith.checks()
                rows.append({"member": member, **self._whose(member), **_row(one, checks, steadiness.get(place))})
            say(f"{method} by {kind}: {len(rows)} of {len(members)} reports")
        return rows, times

    def _time(
        self, work: "Work", method: str, members: Sequence[int]
    ) -> tuple[list[Explanation], Mapping[tuple[str, str], float]]:
        """Predicts and explains reports with the model of their work, with the clock on."""
        prepared = self._prepared.take(pa.array(members))
        start = _clocks()
        work.model.system.scores(prepared)
        middle = _clocks()
        found = explained(work, method)
        end = _clocks()
        return found, {
            (what, name): last - first
            for what, before, after in (("predict", start, middle), ("explain", middle, end))
            for name, first, last in zip(("", "_cpu"), before, after, strict=True)
        }

    def _whose(self, member: int) -> dict[str, str]:
        return {"record_id": self._sample["record_id"][member].as_py(), "group": self._sample["group"][member].as_py()}

    def _figures(self, rows: Sequence[Mapping[str, Any]]) -> list[Result]:
        without = sum(not row["ok"] for row in rows)
        note = f"{without} reports without an explanation are left out" if without else ""
        return [
            self._result("gain", rows, {"comp": 1.0, "random_comp": -1.0}, note=note),
            self._result("comprehensiveness", rows, {"comp": 1.0}),
            self._result("sufficiency", rows, {"suff": 1.0}),
            self._result("sufficiency_gain", rows, {"random_suff": 1.0, "suff": -1.0}),
            self._result("stability", rows, {"stability": 1.0}),
            self._result("residual", rows, {"residual": 1.0}, {"gap": 1.0}),
        ]

    def _beside(self, arm: str, rows: Sequence[Mapping[str, Any]], costs: Mapping[str, float], work: Path) -> list[Result]:
        """The yardstick's own reports again: how much of its gain a method reaches, and at what part of its cost."""
        yardstick = f"{YARDSTICK}-{WORD}"
        if arm == yardstick or not arm.endswith(WORD):
            return []
        theirs = {row["member"]: row for row in pq.read_table(work / f"{yardstick}.parquet").to_pylist() if row["ok"]}
        both = [{**row, **{f"its_{k}": v for k, v in theirs[row["member"]].items()}} for row in rows if row["member"] in theirs]
        cost = json.loads((work / f"{yardstick}.json").read_text())
        gain, its = {"comp": 1.0, "random_comp": -1.0}, {"its_comp": 1.0, "its_random_comp": -1.0}
        return [
            self._result("gain_of_ig", both, gain, its),
            self._result("comprehensiveness_of_ig", both, {"comp": 1.0}, {"its_comp": 1.0}),
            *(Result(f"{name}_of_ig", value / cost[name], n=len(rows)) for name, value in costs.items()),
        ]

    def _result(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        above: Mapping[str, float],
        below: Mapping[str, float] | None = None,
        note: str = "",
    ) -> Result:
        """The mean of weighted columns, or one over another, over the rows that have them all; its interval by patient."""
        needed = [*above, *(below or ())]
        rows = [row for row in rows if row["ok"] and all(row.get(column) is not None for column in needed)]
        if not rows:
            return Result(name, None, n=0, note=note)
        columns = {
            side: [sum(weight * row[column] for column, weight in weights.items()) for row in rows]
            for side, weights in (("above", above), ("below", below or {}))
        }
        if below is None:
            columns["below"] = [1.0] * len(rows)
        found: Estimate = Totals([row["group"] for row in rows], columns).estimates(
            {name: ratio("above", "below")}, self.config.rounds
        )[name]
        return Result(name, found.value, found.low, found.high, len(rows), note)


def spread(count: int, of: int) -> NDArray:
    """`count` places out of 0..of-1, evenly spaced."""
    return np.floor((np.arange(count) + 0.5) * of / count).astype(np.int64) if count else np.empty(0, np.int64)


def stratified(table: pa.Table, task: str, count: int) -> pa.Table:
    """`count` rows, or all where there are fewer: of each code its share of all, within a row; which ones goes by their ids."""
    ids, codes = table["record_id"].to_pylist(), table[task].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: (codes[row], seed_of(ids[row], "sample"), ids[row]))
    return table.take(pa.array([order[place] for place in spread(min(count, len(order)), len(order))]))


def _digest(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for record_id, text in zip(table["record_id"].to_pylist(), table["text"].to_pylist(), strict=True):
        digest.update(json.dumps([record_id, text]).encode())
    return digest.hexdigest()


def _chunks(members: NDArray) -> list[list[int]]:
    return [members[start : start + _TOGETHER].tolist() for start in range(0, len(members), _TOGETHER)]


def _shared(rows: Sequence[Mapping[str, Any]]) -> Reference:
    return Reference(*(np.array([row[name] for row in rows], dtype=float) for name in ("whole", "bare", "comp", "suff")))


def _steadiness(work: "Work", method: str, found: Sequence[Explanation], places: Sequence[int]) -> dict[int, float | None]:
    part = work.only(places)
    held = stability(part, method, [found[place] for place in places], perturbed(part), explained)
    return {place: one.value for place, one in zip(places, held, strict=True)}


def _row(explanation: Explanation, checks: Mapping[str, float | None], steadiness: float | None) -> dict[str, Any]:
    gap = None
    if explanation.target_score is not None and explanation.blank_score is not None:
        gap = abs(explanation.target_score - explanation.blank_score)
    return {
        "comp": checks.get("comp_aopc"),
        "suff": checks.get("suff_aopc"),
        "random_comp": checks.get("random_comp"),
        "random_suff": checks.get("random_suff"),
        "stability": steadiness,
        "residual": None if explanation.residual is None else abs(explanation.residual),
        "gap": gap,
        "ok": explanation.status == OK,
    }


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def with_residuals(work: "Work", method: str, explanations: Sequence[Explanation]) -> list[Explanation]:
    """Adds the residual to explanations made without it: one forward pass a record, and none of the method's own again.

    Explanations by methods that have no residual, or always have it, come back unchanged.
    """
    members = [record for record, explanation in enumerate(explanations) if len(explanation.score)]
    completed = list(explanations)
    if method not in ("gradient_x_input", "attnlrp") or not members:
        return completed
    # The scores come from a forward pass under the rules, so the blank's score must come from one too.
    with work.model.relevance_rules(work.settings.attention_rule) if method == "attnlrp" else nullcontext():
        blanks = at_baseline(work.only(members), baseline_kind(method, work.settings.baseline))
    for record, value in zip(members, blanks, strict=True):
        explanation, blank, gap = explanations[record], float(value) if np.isfinite(value) else None, None
        if explanation.status == OK and explanation.target_score is not None and blank is not None:
            gap = float(explanation.score.sum() - (explanation.target_score - blank))
        completed[record] = replace(explanation, blank_score=blank, residual=gap)
    return completed
