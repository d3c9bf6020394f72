"""Heads trained on reports, on reports and rationales, and on reports and more reports, on a frozen encoder.

One experiment over `heads`, `regimes` and `seeds`; the files under conf/experiment/rationale choose among them (base_control,
augment, ratio, noise, architecture, sufficiency, synthetic, plausible, cross_domain). An arm is one training. After them stand,
for every head and regime, the mean over seeds, its differences from the reports alone and from what else it has to be held
against (`against`), and, for every head but the first, by how much the difference from the reports differs from the first head's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.experiments.compare import Compared, over_records, over_seeds, paired
from engine.experiments.frozen import Frozen, FrozenConfig, no_repeats, plain
from engine.experiments.rationale_sets import kind_of, named_silver
from engine.experiments.regimes import BASE, GENERATED, MARKING, Regime
from engine.experiments.run import Arm, Result, Say
from engine.experiments.scored import FIGURES, figure, results, test_rows
from engine.experiments.significance import holm

MEAN, OVER, TOGETHER = "mean", "over", "interaction"
RATIONALES = "rationales"


@dataclass(frozen=True)
class GridConfig(FrozenConfig):
    """What is trained and measured; `name` is that of the file under conf/experiment.

    `regimes` are those of `engine.experiments.regimes`. Of `erased` texts of test (0: none) the `erased_share` of words that a
    head attends to most is deleted. `folds` are those in which rationales are scored for a filter, and made-up sentences checked.
    """

    name: str = "rationale/augment"
    regimes: tuple[str, ...] = (BASE, "rationales", "extra")
    erased: int = 0
    erased_share: float = 0.2
    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        no_repeats("grid.regimes", self.regimes)
        for name in self.regimes:
            self.regime(name)
        if self.share == 1 and any(name.startswith("extra") for name in self.regimes):
            raise ConfigError("grid.share: more reports come from the texts that it leaves; give a share below 1")
        if BASE not in self.regimes:
            raise ConfigError(f"grid.regimes: {BASE} must be among them, everything else is compared with it")

    def regime(self, name: str) -> Regime:
        """Raises ConfigError for a name that is none."""
        return Regime.of(name)


@dataclass(frozen=True)
class _Part:
    """What an arm is: a training, or a row made of several."""

    what: str
    head: str
    regime: str
    seed: int = 0
    other: str = BASE

    @property
    def arm(self) -> Arm:
        end = f"{OVER}-{self.other}" if self.what == OVER else self.what or self.seed
        return Arm(f"{self.head}-{self.regime}-{end}", self.seed)


def against(name: str, regimes: Sequence[str], of: Callable[[str], Regime] = Regime.of) -> list[str]:
    """The regimes, of those there are, that one is held against: the reports alone; for rationales that were changed, filtered or
    put to use in another way the plain ones, for these more reports, and for a filter as many drawn at random."""
    kind = of(name)
    wanted = [BASE]
    if name == RATIONALES:
        wanted += ["extra", "extra.tokens"]
    elif kind.kind not in ("ratio", "extra", "extra.tokens"):
        wanted.append(RATIONALES)
    if kind.rule is not None and kind.rule.name != "random":
        wanted.append(name.replace("filter.", "filter.random.", 1))
    return [other for other in wanted if other in regimes and other != name]


class Grid:
    """See `engine.experiments.run.Experiment`."""

    def __init__(self, config: GridConfig) -> None:
        self.config = config
        self.name = config.name
        self._frozen: Frozen | None = None
        self._rows: dict[tuple[str, str, int], pa.Table] = {}
        self._known: dict[tuple[str, str, str], list[float | None]] = {}

    def settings(self) -> Mapping[str, Any]:
        return plain(self.config)

    def arms(self) -> Sequence[Arm]:
        return [part.arm for part in self._parts()]

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        (part,) = (each for each in self._parts() if each.arm == arm)
        if part.what == MEAN:
            found = self._mean(part, work)
        elif part.what in (OVER, TOGETHER):
            found = self._compared(part, work)
        else:
            found = self._trained(part, work, say)
        return named_silver(found, kind_of(self.config.path))

    def _parts(self) -> list[_Part]:
        config = self.config
        others = [name for name in config.regimes if name != BASE]
        trained = [_Part("", head, name, seed) for seed in config.seeds for head in config.heads for name in config.regimes]
        means = [_Part(MEAN, head, name) for head in config.heads for name in config.regimes]
        over = [
            _Part(OVER, head, name, other=other)
            for head in config.heads
            for name in others
            for other in against(name, config.regimes, config.regime)
        ]
        return [*trained, *means, *over, *(_Part(TOGETHER, head, name) for head in config.heads[1:] for name in others)]

    def _trained(self, part: _Part, work: Path, say: Say) -> list[Result]:
        from engine.experiments.banked import scored_rationales
        from engine.experiments.generated import generated, templates

        if self._frozen is None:
            self._frozen = self._heads(work, say)
            # Before the first training, and not after a night of them.
            regimes = [self.config.regime(name) for name in self.config.regimes]
            self._frozen.texts.enough(regimes)
            for regime in regimes:
                if regime.kind in GENERATED:
                    templates(self._frozen.kind, "extractive")
        frozen, regime = self._frozen, self.config.regime(part.regime)
        bank, made, told = None, None, []
        if regime.kind == "filter":
            bank = scored_rationales(frozen, part.head, self.config.folds, work)
        elif regime.kind in GENERATED:
            made, told = generated(frozen, part.head, regime.kind.partition(".")[2], self.config.folds, work)
        table = frozen.texts.of(regime, part.seed, bank, made)
        learner = frozen.learned(
            part.head,
            table,
            part.seed,
            ratio=regime.value if regime.kind == "ratio" else -1.0,
            marking=regime.value if regime.kind == MARKING else 0.0,
        )
        rows = test_rows(frozen, learner, self.config.erased, self.config.erased_share)
        pq.write_table(rows, work / f"{part.arm.name}.parquet")
        texts = len(table) - len(frozen.texts.base) - len(frozen.texts.held)
        return [*results(rows, self.config.rounds), Result("texts_besides", texts), *told]

    def _heads(self, work: Path, say: Say) -> Frozen:
        return Frozen(self.config, work, say)

    def _answers(self, head: str, regime: str, seed: int, work: Path) -> pa.Table:
        key = (head, regime, seed)
        if key not in self._rows:
            self._rows[key] = pq.read_table(work / f"{_Part('', *key).arm.name}.parquet")
        return self._rows[key]

    def _figures(self, head: str, regime: str, metric: str, work: Path) -> list[float] | None:
        """A figure for each seed."""
        key = (head, regime, metric)
        if key not in self._known:
            self._known[key] = [figure(self._answers(head, regime, seed, work), metric) for seed in self.config.seeds]
        found = self._known[key]
        return None if None in found else found

    def _mean(self, part: _Part, work: Path) -> list[Result]:
        known = {metric: self._figures(part.head, part.regime, metric, work) for metric in FIGURES}
        found = {metric: over_seeds(values) for metric, values in known.items() if values}
        return [Result(metric, each.value, each.low, each.high, each.n) for metric, each in found.items()]

    def _gain(self, part: _Part, metric: str, work: Path) -> Compared | None:
        """A regime less another; for an interaction less the same of the first head."""
        heads = [part.head] if part.what == OVER else [part.head, self.config.heads[0]]
        sides = [self._figures(head, name, metric, work) for head in heads for name in (part.regime, part.other)]
        if any(side is None for side in sides):
            return None
        gains = [[a - b for a, b in zip(*sides[at : at + 2], strict=True)] for at in range(0, len(sides), 2)]
        return over_seeds(gains[0]) if part.what == OVER else paired(*gains)

    def _compared(self, part: _Part, work: Path) -> list[Result]:
        """Corrected for all of the experiment's comparisons of one figure with the reports alone, or with anything else."""
        family = [each for each in self._parts() if each.what == part.what and (each.other == BASE) == (part.other == BASE)]
        found = []
        for metric in FIGURES:
            gains = [self._gain(each, metric, work) for each in family]
            mine, corrected = gains[family.index(part)], holm([gain and gain.p for gain in gains])[family.index(part)]
            if mine is not None:
                found.append(Result(f"{metric}_gain", mine.value, mine.low, mine.high, mine.n))
                found += [
                    Result(f"{metric}_{name}", p, n=mine.n) for name, p in (("p", mine.p), ("holm", corrected)) if p is not None
                ]
        if part.what == OVER:
            pairs = [
                tuple(self._answers(part.head, name, seed, work) for name in (part.regime, part.other))
                for seed in self.config.seeds
            ]
            for metric in ("accuracy", "macro_f1"):
                each = over_records(pairs, self.config.rounds, metric == "macro_f1")
                found.append(Result(f"{metric}_gain_texts", each.value, each.low, each.high, len(pairs[0][0])))
        return found
