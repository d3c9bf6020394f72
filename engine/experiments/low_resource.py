"""Few reports of some labels: what rationales add to them, beside what as many reports would (Metzner et al., arXiv 2507.21302).

Of each chosen label `kept` reports of train stay, all chosen labels in the same training; then some rationales of reports that do
not stay are added, or those reports themselves. Where a text may have several labels, a report that does not stay for one of
them stays for the others: training is told neither yes nor no for that one. The reports added of a label in `synthetic` are
generated (`engine.sources.synthetic`), and every figure that rests on them says so.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.experiments.compare import Compared, flags_of, over_seeds, paired
from engine.experiments.frozen import Frozen, FrozenConfig, no_repeats, plain
from engine.experiments.rationale_sets import TASK
from engine.experiments.regimes import Texts, listed, origin, retold
from engine.experiments.run import Arm, Result, Say
from engine.experiments.scored import label_f1, test_rows
from engine.experiments.significance import holm
from engine.records import seed_of

NONE, RATIONALES, REPORTS = "none", "rationales", "reports"
ALL = "all"
SYNTHETIC = "the reports added are synthetic"
_GENERATED = 400
_CLASSES = 5


@dataclass(frozen=True)
class LowResourceConfig(FrozenConfig):
    """What is kept and added.

    `classes` are the labels kept short; none named: those of `synthetic` that the set has and the largest, five in all. `kept`
    are numbers of reports, `added` of rationales or reports (0: all there are).
    """

    share: float = 1.0
    heads: tuple[str, ...] = ("target",)
    classes: tuple[str, ...] = ()
    kept: tuple[int, ...] = (0, 10, 50, 100)
    added: tuple[int, ...] = (10, 50, 0)
    synthetic: tuple[str, ...] = ("C15",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kept or not self.added:
            raise ConfigError("grid.kept and grid.added: name at least one number each")
        for name in ("kept", "added", "classes"):
            no_repeats(f"grid.{name}", getattr(self, name))


@dataclass(frozen=True)
class Part:
    """A training, or with `seed` None the mean and comparison over the seeds; `added` 0 is all there are."""

    head: str
    kept: int
    what: str
    added: int
    seed: int | None

    @property
    def arm(self) -> Arm:
        more = "" if self.what == NONE else f"-{self.added or ALL}"
        end = "mean" if self.seed is None else self.seed
        return Arm(f"{self.head}-keep{self.kept}-{self.what}{more}-{end}", self.seed or 0)


class LowResource:
    """See `engine.experiments.run.Experiment`. A mean's `f1_<label>_gain` is over the same reports without anything added; that
    of rationales has besides `f1_<label>_over_reports`, over as many reports."""

    name = "rationale/low_resource"

    def __init__(self, config: LowResourceConfig) -> None:
        self.config = config
        self._frozen: Frozen | None = None
        self._f1: dict[str, list[float | None]] = {}

    def settings(self) -> Mapping[str, Any]:
        return plain(self.config)

    def arms(self) -> Sequence[Arm]:
        return [part.arm for part in self._parts()]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        (part,) = (each for each in self._parts() if each.arm == arm)
        if self._frozen is None:
            self._frozen = Frozen(self.config, work, say)
        return self._mean(part, self._frozen, work) if part.seed is None else self._trained(part, self._frozen, work)

    def _parts(self) -> list[Part]:
        config = self.config
        what = [(NONE, 0), *((kind, count) for kind in (RATIONALES, REPORTS) for count in config.added)]
        return [
            Part(head, kept, kind, count, seed)
            for seed in (*config.seeds, None)
            for head in config.heads
            for kept in config.kept
            for kind, count in what
        ]

    def _trained(self, part: Part, frozen: Frozen, work: Path) -> list[Result]:
        table, counts = thinned(frozen.texts, self._classes(frozen), part, self.config.synthetic)
        rows = test_rows(frozen, frozen.learned(part.head, table, part.seed), 0, 0.0)
        pq.write_table(rows, work / f"{part.arm.name}.parquet")
        found = []
        values = dict(zip(frozen.texts.labels, label_f1(flags_of(rows, "gold"), flags_of(rows, "given")), strict=True))
        for label, (added, note) in counts.items():
            found.append(Result(f"f1_{label}", values[label], n=len(rows), note=note))
            found.append(Result(f"added_{label}", added, n=len(rows), note=note))
        return found

    def _classes(self, frozen: Frozen) -> tuple[str, ...]:
        told = [listed(each) for each in frozen.texts.base[TASK].to_pylist()]
        size = {label: sum(label in labels for labels in told) for label in frozen.texts.labels}
        unknown = [label for label in self.config.classes if label not in size]
        if unknown:
            raise ConfigError(f"grid.classes: the set has no label '{unknown[0]}'; it has {', '.join(size)}")
        first = [label for label in self.config.synthetic if label in size]
        return self.config.classes or tuple(sorted(sorted(size), key=lambda label: (label not in first, -size[label]))[:_CLASSES])

    def _mean(self, part: Part, frozen: Frozen, work: Path) -> list[Result]:
        found = []
        for label in self._classes(frozen):
            mine = self._values(part, label, frozen, work)
            found.append(_told(f"f1_{label}", over_seeds(mine), self._note(label, part.what)))
            if part.what != NONE:
                found += self._gain(part, label, "gain", frozen, work)
            if part.what == RATIONALES:
                found += self._gain(part, label, "over_reports", frozen, work)
        return found

    def _gain(self, part: Part, label: str, name: str, frozen: Frozen, work: Path) -> list[Result]:
        """Corrected for all comparisons of this kind for this label."""
        note = self._note(label, part.what if name == "gain" else REPORTS)
        family = [
            each
            for each in self._parts()
            if each.seed is None and (each.what == RATIONALES or (each.what == REPORTS and name == "gain"))
        ]
        found = []
        for each in family:
            against = (
                Part(each.head, each.kept, NONE, 0, None)
                if name == "gain"
                else Part(each.head, each.kept, REPORTS, each.added, None)
            )
            found.append(paired(self._values(each, label, frozen, work), self._values(against, label, frozen, work)))
        mine, corrected = found[family.index(part)], holm([each.p for each in found])[family.index(part)]
        told = [_told(f"f1_{label}_{name}", mine, note)]
        return told + ([Result(f"f1_{label}_{name}_holm", corrected, n=mine.n, note=note)] if corrected is not None else [])

    def _note(self, label: str, what: str) -> str:
        """What a reader must know of a figure of a label that rests on what was added."""
        return SYNTHETIC if what == REPORTS and label in self.config.synthetic else ""

    def _values(self, part: Part, label: str, frozen: Frozen, work: Path) -> list[float]:
        """The label's F1 for each seed; a label that is never given where it should be counts 0."""
        number = frozen.texts.labels.index(label)
        found = []
        for seed in self.config.seeds:
            name = replace(part, seed=seed).arm.name
            if name not in self._f1:
                rows = pq.read_table(work / f"{name}.parquet")
                self._f1[name] = label_f1(flags_of(rows, "gold"), flags_of(rows, "given"))
            found.append(self._f1[name][number] or 0.0)
        return found


def _told(name: str, each: Compared, note: str) -> Result:
    return Result(name, each.value, each.low, each.high, each.n, note)


def thinned(
    texts: Texts, classes: Sequence[str], part: Part, synthetic: Sequence[str]
) -> tuple[pa.Table, dict[str, tuple[int, str]]]:
    """The examples of a training; of each class how many texts are added, and what they are where they are synthetic."""
    train = [each for each in texts.marked if each.record_id in texts.reports]
    unknown: dict[str, list[str]] = {}
    added: list[pa.Table] = []
    counts: dict[str, tuple[int, str]] = {}
    for label in classes:
        order = sorted(
            (each.record_id for each in train if label in each.labels), key=lambda name: seed_of(name, "kept", label, part.seed)
        )
        gone, note = order[part.kept :], ""
        for name in gone:
            unknown.setdefault(name, []).append(label)
        if part.what == NONE:
            counts[label] = (0, note)
            continue
        if part.what == RATIONALES:
            added.append(_rationales(texts, set(gone), label, part))
        elif label in synthetic:
            added.append(generated(texts.base.schema, label, part.added or len(gone), part.seed or 0))
            note = SYNTHETIC
        else:
            for name in gone[: part.added or None]:
                unknown[name].remove(label)
        counts[label] = (len(gone[: part.added or None]) if part.what == REPORTS and not note else len(added[-1]), note)
    reports, hidden = texts.base, [unknown.get(name) or None for name in texts.base["record_id"].to_pylist()]
    if texts.multi_label:
        reports = retold(reports, unknown=hidden)
    else:
        reports = reports.filter(pa.array([labels is None for labels in hidden], pa.bool_()))
    return pa.concat_tables([reports, *added, texts.held]), counts


def _rationales(texts: Texts, gone: Set[str], label: str, part: Part) -> pa.Table:
    """Rationales of a label from reports that do not stay; where there may be several labels, they teach this one alone."""
    found = texts.rationales
    names = found["record_id"].to_pylist()
    told = found[TASK].to_pylist()
    mine = [row for row, name in enumerate(names) if origin(name)[0] in gone and label in listed(told[row])]
    mine.sort(key=lambda row: seed_of(names[row], "added", label, part.seed))
    chosen = found.take(pa.array(mine[: part.added or None], pa.int64()))
    if not texts.multi_label:
        return chosen
    others = [other for other in texts.labels if other != label]
    named = [f"{name}-{label}" for name in chosen["record_id"].to_pylist()]
    return retold(chosen, record_id=named, unknown=[others] * len(chosen))


def generated(schema: pa.Schema, site: str, count: int, seed: int) -> pa.Table:
    """Synthetic reports of one site as examples of train.

    Raises:
        ConfigError: no synthetic report has the site.
    """
    from engine.sources.synthetic import generate

    found: list[dict[str, Any]] = []
    size = max(_GENERATED, 16 * count)
    while len(found) < count:
        table = generate(size, seed, skew="uniform").select(["record_id", "text", "site"])
        found = [row for row in table.to_pylist() if row["site"] == site][:count]
        if not found:
            raise ConfigError(f"grid.synthetic: no synthetic report has the site {site}; leave it out")
        size *= 2
    # What is not named is null, marks and unknown codes among them.
    blank = {"source": "synthetic", "split": "train", "kind": "synthetic", "leak": False, "pair": None}
    rows = [{**blank, "record_id": row["record_id"], "group": row["record_id"], "text": row["text"], TASK: site} for row in found]
    return pa.Table.from_pylist(rows, schema=schema)
