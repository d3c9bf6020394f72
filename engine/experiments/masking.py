"""What random token masking in training does to erasure: two models on a quarter of the real data, alike but for the masking.

Both are measured on the same test reports: how far the answer's probability falls when the strongest words are erased
(comprehensiveness), how far when they alone are left (sufficiency), and the same for words drawn at random.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError, ContractError
from engine.evaluation.resample import Estimate, Totals, ratio
from engine.experiments import trained
from engine.experiments.run import Arm, Result, Say
from engine.experiments.trained import Recipe
from engine.explain.settings import METHOD_NAMES
from engine.models.run import records_of
from engine.records import seed_of
from engine.storage import whole_file

TASK = "answer"
WITH, WITHOUT, DIFFERENCE = "with_masking", "without_masking", "difference"
MEASURES = ("comprehensiveness_gain", "sufficiency_gain")
ROWS = pa.schema(
    [
        pa.field("record_id", pa.string()),
        pa.field("patient_id", pa.string()),
        pa.field("method", pa.string()),
        *(pa.field(name, pa.float64()) for name in ("comp", "random_comp", "suff", "random_suff", *MEASURES)),
    ]
)
_AT_ONCE = 10


@dataclass(frozen=True, kw_only=True)
class MaskingConfig(Recipe):
    """Settings of `explain/masking`.

    `path`, `id`, `text`, `split`, `group` and `labels` (one task) are those of `jobs.train`. A patient is taken for training if a
    hash puts it under `part`; `valid_records` of valid and `test_records` of test are drawn by their ids, and `records` of the
    latter are explained. `masking` is the masking of the model that has it. `methods` are those of `jobs.explain`.
    """

    path: str
    id: str = "record_id"
    text: str = "text"
    split: str = "split"
    group: str = "patient_id"
    labels: Mapping[str, str] = field(default_factory=lambda: {"site": "site"})
    part: float = 0.25
    valid_records: int = 120
    test_records: int = 200
    records: int = 40
    windows: int = 3
    epochs: float = 3.0
    evidence_sample: int = 6
    methods: tuple[str, ...] = ("pooling", "attnlrp")

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(self.methods))
        unknown = sorted(set(self.methods) - set(METHOD_NAMES))
        if unknown or not self.methods:
            raise ConfigError(f"methods: name some of {', '.join(METHOD_NAMES)}")
        if not 0 < self.part <= 1 or not 0 < self.records <= self.test_records or self.valid_records < 1:
            raise ConfigError(f"sizes.records: from 1 to {self.test_records}; part lies above 0 and up to 1")
        if len(self.labels) != 1:
            raise ConfigError("data.labels: name one task and its column, such as {site: site_code}")


class Masking:
    """See `engine.experiments.run.Experiment`: an arm a model, then what lies between them."""

    name = "explain/masking"

    def __init__(self, config: MaskingConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        return [Arm(name, self.config.seed) for name in (WITH, WITHOUT, DIFFERENCE)]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        if arm.name == DIFFERENCE:
            return between(*(self._rows(name, work, say)[0] for name in (WITH, WITHOUT)))
        rows, figures = self._rows(arm.name, work, say)
        quality = figures["tasks"][TASK]["model"]
        accuracy = Result("accuracy", quality["accuracy"], quality["accuracy_low"], quality["accuracy_high"], quality["n"])
        return [accuracy, *measured(rows)]

    def _rows(self, model: str, work: Path, say: Say) -> tuple[pa.Table, dict[str, Any]]:
        """A row a test report and method, and the figures of the model's card; each made once and kept."""
        data, folder, kept = work / "reports.parquet", work / model, work / f"{model}-rows.parquet"
        if not data.is_file():
            examples = chosen(self.config)
            trained.write_examples(data, {name: examples[name].to_pylist() for name in examples.column_names})
        masking = self.config.masking if model == WITH else 0.0
        command = f"python -m jobs.experiment experiment={self.name}"
        fields = {"path": str(data), "labels": {TASK: TASK}}
        figures = trained.train(self.config, fields, folder, command, say, masking=masking)
        if not kept.is_file():
            test = pq.read_table(data, filters=[("split", "=", "test")])
            table = erased(folder, by_draw(test, self.config.records, self.config.seed), self.config.methods, say)
            with whole_file(kept) as part:
                pq.write_table(table, part)
        return pq.read_table(kept, schema=ROWS), figures


def chosen(config: MaskingConfig) -> pa.Table:
    """The reports of the experiment: a part of the patients of train, some reports of valid and test."""
    from engine.models.site_classifier.columns import DataConfig
    from engine.models.site_classifier.corpus import ReportSurvey

    fields = {name: getattr(config, name) for name in ("path", "id", "text", "split", "group")}
    (column,) = config.labels.values()
    examples = ReportSurvey.of(DataConfig(labels={TASK: column}, **fields)).examples()
    examples = examples.rename_columns({"group": "patient_id"}).select(["record_id", "patient_id", "text", "split", TASK])
    # The two models are held against each other report by report, so each needs a name of its own.
    names = pa.array(numbered(*(examples[name].to_pylist() for name in ("record_id", "text"))), pa.string())
    examples = examples.set_column(0, "record_id", names)
    of = {name: examples.filter(pc.equal(examples["split"], name)) for name in ("train", "valid", "test")}
    mine = [taken(patient, config.part, config.seed) for patient in of["train"]["patient_id"].to_pylist()]
    of["train"] = of["train"].filter(pa.array(mine, pa.bool_()))
    for name in ("valid", "test"):
        of[name] = by_draw(of[name], getattr(config, f"{name}_records"), config.seed)
    empty = [name for name, table in of.items() if not len(table)]
    if empty:
        raise ConfigError(f"path: no labelled report is left for {empty[0]}")
    return pa.concat_tables(of.values())


def numbered(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Ids that stand once each: where a report was read more than once, its texts are numbered, in whatever order they came."""
    found, seen = list(names), Counter[str]()
    for row in sorted(range(len(found)), key=lambda row: (names[row], texts[row])):
        seen[names[row]] += 1
        if seen[names[row]] > 1:
            found[row] = f"{names[row]}#{seen[names[row]]}"
    return found


def taken(patient: str, part: float, seed: int) -> bool:
    """Whether a patient is in a part of all, the same one whatever the table's order."""
    return seed_of(patient, "part", seed) < part * 2**63


def by_draw(reports: pa.Table, count: int, seed: int) -> pa.Table:
    """As many reports, drawn by their ids."""
    draws = [seed_of(name, "experiment", seed) for name in reports["record_id"].to_pylist()]
    return reports.take(pa.array(sorted(np.argsort(draws, kind="stable")[:count].tolist()), pa.int64()))


def erased(folder: Path, test: pa.Table, methods: Sequence[str], say: Say) -> pa.Table:
    """Measures by erasure of the model's own answers, in the columns of `ROWS`; methods share the random control.

    The arithmetic is that of a run, bf16 where the hardware has it.
    """
    from engine.explain.explain import explained, work_for
    from engine.explain.faithfulness import faithfulness, reference
    from engine.explain.settings import Measures, Settings
    from engine.models.code_explainable import reports
    from engine.models.site_classifier.attributable import SiteExplainable

    system, measures, rows = trained.coder(folder, "none"), Measures(), []
    for start in range(0, len(test), _AT_ONCE):
        part = test.slice(start, _AT_ONCE)
        ids, patients = part["record_id"].to_pylist(), part["patient_id"].to_pylist()
        batch = reports(system.prepare(records_of(ids, part["text"].to_pylist())))
        model = SiteExplainable(system, TASK)
        work = work_for(model, batch, model.predicted(batch), Settings(tokens_per_pass=system.budget))
        shared = reference(work, measures)
        for method in methods:
            found = faithfulness(work, explained(work, method), measures, shared)
            for name, patient, one in zip(ids, patients, found, strict=True):
                if one is None:
                    raise ContractError(f"{method} gave no explanation of a report")
                rows.append(_row(name, patient, method, one.checks()))
        say(f"{folder.name}: {min(start + _AT_ONCE, len(test))} of {len(test)} reports erased")
    return pa.Table.from_pylist(rows, schema=ROWS)


def _row(name: str, patient: str, method: str, checks: Mapping[str, float | None]) -> dict[str, Any]:
    comp, suff = checks["comp_aopc"], checks["suff_aopc"]
    random_comp, random_suff = checks["random_comp"], checks["random_suff"]
    return {
        "record_id": name,
        "patient_id": patient,
        "method": method,
        "comp": comp,
        "random_comp": random_comp,
        "suff": suff,
        "random_suff": random_suff,
        "comprehensiveness_gain": comp - random_comp,
        "sufficiency_gain": suff - random_suff,
    }


def measured(rows: pa.Table) -> list[Result]:
    """Each method's comprehensiveness and sufficiency less those of random words, with intervals by patient, and both bare."""
    found = []
    for method in dict.fromkeys(rows["method"].to_pylist()):
        mine = rows.filter(pc.equal(rows["method"], method))
        columns = {name: mine[name].to_numpy() for name in (*MEASURES, "comp", "random_comp", "suff", "random_suff")}
        found += _means(method, mine["patient_id"].to_pylist(), columns)
    return found


def between(first: pa.Table, second: pa.Table) -> list[Result]:
    """What the first model has more than the second of each measure, report by report, with intervals by patient.

    Raises:
        ContractError: the two were not measured on the same reports.
    """
    found = []
    for method in dict.fromkeys(first["method"].to_pylist()):
        one, other = (
            {row["record_id"]: row for row in table.to_pylist() if row["method"] == method} for table in (first, second)
        )
        if one.keys() != other.keys():
            raise ContractError("the two models were measured on different reports")
        columns = {name: np.array([one[key][name] - other[key][name] for key in one]) for name in MEASURES}
        found += _means(method, [row["patient_id"] for row in one.values()], columns)
    return found


def _means(method: str, patients: Sequence[str], columns: Mapping[str, np.ndarray]) -> list[Result]:
    totals = Totals(patients, {**columns, "n": np.ones(len(patients))})
    estimates: Mapping[str, Estimate] = totals.estimates({name: ratio(name, "n") for name in columns})
    return [Result(f"{method}_{name}", each.value, each.low, each.high, len(patients)) for name, each in estimates.items()]
