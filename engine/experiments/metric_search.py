"""Which property of a rationale says that training on it helps: each property's rank correlation with leave-group-out gain.

The rationales of the reports are put in order by each property and cut into groups of equal size. For every group heads are
trained on all rationales but those of the group: what is lost on test is the group's gain. All groups, by whichever property they
were cut, are then compared with the mean of every property in them. Of the groups' gains the mean over seeds counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.experiments.banked import FURTHER, scored_rationales
from engine.experiments.frozen import Frozen, FrozenConfig, plain
from engine.experiments.run import Arm, Result, Say
from engine.experiments.scored import figure, test_rows
from engine.experiments.significance import holm

PROPERTIES = ("sufficiency", "norm_sufficiency", *FURTHER)
GAINS = ("macro_f1", "prob")
WHOLE, RANKED = "whole", "ranked"


@dataclass(frozen=True)
class MetricSearchConfig(FrozenConfig):
    """`groups` are cut by each property; `folds` those in which rationales are scored."""

    heads: tuple[str, ...] = ("target",)
    groups: int = 4
    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 2:
            raise ConfigError("grid.groups: at least 2")


class MetricSearch:
    """See `engine.experiments.run.Experiment`. `rho_<gain>` is Spearman's, with the interval of Fisher's transformation, which
    takes groups for independent; those of different properties share rationales, so it is rather too narrow."""

    name = "rationale/metric_search"

    def __init__(self, config: MetricSearchConfig) -> None:
        self.config = config
        self._frozen: Frozen | None = None

    def settings(self) -> Mapping[str, Any]:
        return plain(self.config)

    def arms(self) -> Sequence[Arm]:
        left = [(name, str(number)) for name in PROPERTIES for number in range(self.config.groups)]
        trained = [
            Arm(f"{head}-{'-'.join(out)}-{seed}", seed)
            for head in self.config.heads
            for seed in self.config.seeds
            for out in ((WHOLE,), *left)
        ]
        return [*trained, *(Arm(f"{head}-{RANKED}-{name}") for head in self.config.heads for name in PROPERTIES)]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        if self._frozen is None:
            self._frozen = Frozen(self.config, work, say)
        head, *rest = arm.name.split("-")
        bank = scored_rationales(self._frozen, head, self.config.folds, work)
        if rest[0] == RANKED:
            return self._ranked(head, rest[1], bank, work)
        out = set() if rest[0] == WHOLE else self._group(bank, rest[0], int(rest[1]))
        if rest[0] != WHOLE and not out:
            return [Result("left_out", 0, note="too few rationales have this property")]
        texts = self._frozen.texts
        names = texts.rationales["record_id"].to_pylist()
        kept = texts.rationales.filter(pa.array([name not in out for name in names], pa.bool_()))
        learner = self._frozen.learned(head, pa.concat_tables([texts.base, kept, texts.held]), arm.seed)
        rows = test_rows(self._frozen, learner, 0, 0.0)
        pq.write_table(rows, work / f"{arm.name}.parquet")
        return [Result("left_out", len(out)), *(Result(name, figure(rows, name), n=len(rows)) for name in GAINS)]

    def _group(self, bank: pa.Table, name: str, number: int) -> set[str]:
        """The ids of a group; rationales without the property belong to none."""
        values = np.array(bank[name].to_pylist(), dtype=float)
        known = np.flatnonzero(~np.isnan(values))
        order = known[np.argsort(values[known], kind="stable")]
        ids = bank["record_id"].to_pylist()
        return {ids[row] for row in np.array_split(order, self.config.groups)[number]}

    def _ranked(self, head: str, name: str, bank: pa.Table, work: Path) -> list[Result]:
        groups = [(each, number) for each in PROPERTIES for number in range(self.config.groups)]
        groups = [group for group in groups if self._group(bank, *group)]
        found = []
        for gain in GAINS:
            gains = np.array([self._gain(head, each, number, gain, work) for each, number in groups])
            told = {each: self._rho(bank, each, groups, gains) for each in PROPERTIES}
            rho, low, high, p = told[name]
            corrected = holm([told[each][3] for each in PROPERTIES])[PROPERTIES.index(name)]
            found.append(Result(f"rho_{gain}", rho, low, high, len(groups)))
            found += [Result(f"rho_{gain}_{what}", value, n=len(groups)) for what, value in (("p", p), ("holm", corrected))]
        return found

    def _gain(self, head: str, name: str, number: int, gain: str, work: Path) -> float:
        """What is lost without a group, the mean over seeds."""
        lost = []
        for seed in self.config.seeds:
            files = (f"{head}-{WHOLE}-{seed}", f"{head}-{name}-{number}-{seed}")
            whole, without = (figure(pq.read_table(work / f"{file}.parquet"), gain) for file in files)
            lost.append(whole - without)
        return float(np.mean(lost))

    def _rho(self, bank: pa.Table, name: str, groups: Sequence[tuple[str, int]], gains: NDArray) -> tuple[Any, ...]:
        ids = bank["record_id"].to_pylist()
        value = dict(zip(ids, np.array(bank[name].to_pylist(), dtype=float).tolist(), strict=True))
        means = [[value[each] for each in self._group(bank, *group) if not np.isnan(value[each])] for group in groups]
        there = np.array([len(each) > 0 for each in means])
        return correlation([float(np.mean(each)) for each in means if each], gains[there])


def correlation(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, float | None, float | None, float | None]:
    """Spearman's rho, its 95 % interval, and p; None where one of the two never changes, or there are fewer than three pairs.

    Source:
        Bonett and Wright, Psychometrika 65 (2000): Fisher's transformation with variance (1 + rho^2 / 2) / (n - 3).
    """
    from scipy.stats import spearmanr

    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None, None, None, None
    found = spearmanr(one, other)
    rho, n = float(found.statistic), len(one)
    if abs(rho) > 1 - 1e-9 or n < 4:
        return rho, None, None, float(found.pvalue)
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return rho, float(np.tanh(np.arctanh(rho) - half)), float(np.tanh(np.arctanh(rho) + half)), float(found.pvalue)
