"""Where soft prompts pass hard ones: over the share of the training texts, the encoder's depth, and frozen or tuned.

The arms `crossing-<depth>-<frozen or tuned>` name the smallest of the shares tried from which soft stays ahead of hard, and the
smallest from which the interval over texts says so at every share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.experiments.mrc import (
    MrcRecipe,
    cost_of,
    fitted,
    gold_of,
    keep_found,
    kept_found,
    measured,
    results_of,
    settings_of,
)
from engine.experiments.run import Arm, Result, Say
from engine.experiments.significance import difference
from engine.models.prompt_mrc.config import HARD, SOFT

FROZEN, TUNED = "frozen", "tuned"


@dataclass(frozen=True)
class CrossoverConfig(MrcRecipe):
    """Settings of `prompt_mrc/soft_vs_hard_crossover`: `shares` of train, rising, and `depths` in layers that are kept.

    Below a quarter of the texts epochs grow as texts get fewer, up to `most_epochs`: few texts must not mean few steps alone.
    `frozen_rate` is that of heads and soft vectors alike on a frozen encoder, at which `plug_and_play` trains its prompts too.
    """

    many_corpora: ClassVar[bool] = False

    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    depths: tuple[int, ...] = (2, 4, 6)
    encoders: tuple[str, ...] = (FROZEN, TUNED)
    most_epochs: float = 40.0
    frozen_rate: float = 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shares", "depths", "encoders"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if list(self.shares) != sorted(set(self.shares)) or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("sizes.shares: shares of train above 0 and at most 1, rising")
        if not set(self.encoders) <= {FROZEN, TUNED} or not self.encoders or not self.depths:
            raise ConfigError("data.encoders: frozen, tuned, or both; sizes.depths: at least one")


class Crossover:
    """See `engine.experiments.run.Experiment`."""

    name = "prompt_mrc/soft_vs_hard_crossover"

    def __init__(self, config: CrossoverConfig) -> None:
        self.config = config

    def settings(self) -> Mapping[str, Any]:
        return self.config.values()

    def arms(self) -> Sequence[Arm]:
        found, seed = [], self.config.seeds[0]
        for depth, encoder in product(self.config.depths, self.config.encoders):
            for share, mode in product(self.config.shares, (HARD, SOFT)):
                found.append(Arm(_named(mode, depth, encoder, share), seed))
            found.append(Arm(f"crossing-{depth}-{encoder}", seed))
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        if arm.name.startswith("crossing-"):
            _, depth, encoder = arm.name.split("-")
            return self._crossing(int(depth), encoder, work)
        mode, depth, encoder, share = arm.name.split("-")
        given = float(share.removeprefix("share")) / 100
        changes: dict[str, Any] = {"mode": mode, "depth": int(depth), "share": given, "freeze_encoder": encoder == FROZEN}
        if encoder == FROZEN:
            changes["soft_rate"] = 1.0
        settings = settings_of(self.config, self.config.corpora[0], arm.seed, **changes)
        epochs = min(self.config.most_epochs, self.config.epochs * max(1.0, 0.25 / given))
        rate = self.config.frozen_rate if encoder == FROZEN else self.config.rate
        model = fitted(self.config, settings, work / arm.name, say, rate, epochs)
        found = measured(model, rounds=self.config.rounds)
        keep_found(work / arm.name, found)
        return [*results_of(found), *cost_of(model)]

    def _crossing(self, depth: int, encoder: str, work: Path) -> list[Result]:
        gold, ahead, sure, results = gold_of(self.config, self.config.corpora[0]), [], [], []
        for share in self.config.shares:
            names = [_named(mode, depth, encoder, share) for mode in (SOFT, HARD)]
            less, _ = difference(gold, *(kept_found(work / name, gold) for name in names), "", self.config.rounds)
            # A tie is no lead.
            ahead.append(less.value is not None and less.value > 0)
            sure.append(less.low is not None and less.low > 0)
            results.append(Result(f"f1_soft_less_hard_{_percent(share)}", less.value, less.low, less.high, len(gold)))
            ece = [_value(work.parent / "arms", name, "ece") for name in names]
            if None not in ece:
                results.append(Result(f"ece_soft_less_hard_{_percent(share)}", ece[0] - ece[1]))
        tried = ", ".join(f"{_percent(share)} %" for share in self.config.shares)
        note = f"smallest share of train from which soft is ahead at every share tried ({tried}); none: not within these"
        return [
            Result("crossing_share", self._first(ahead), note=note),
            Result("crossing_share_sure", self._first(sure), note="the same with an interval over texts that lies above 0"),
            *results,
        ]

    def _first(self, flags: Sequence[bool]) -> float | None:
        """The smallest share from which all flags hold."""
        return next((share for at, share in enumerate(self.config.shares) if all(flags[at:])), None)


def _named(mode: str, depth: int, encoder: str, share: float) -> str:
    return f"{mode}-{depth}-{encoder}-share{_percent(share)}"


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _value(arms: Path, arm: str, metric: str) -> float | None:
    rows = pq.read_table(arms / f"{arm}.parquet").to_pylist()
    return next((row["value"] for row in rows if row["metric"] == metric), None)
