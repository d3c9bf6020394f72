"""Stability: does the same answer keep the same explanation when the record is changed slightly?

Each copy is changed at random, by default with some units masked. If that changes the answer, the copy tells nothing about the
explanation: it is left out and counted in the flip rate. Explanations are compared over the units that were not masked or
replaced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from engine.errors import ConfigError
from engine.explain.explanation import OK, Explanation, edge_units, inside_units
from engine.explain.methods import attribute
from engine.explain.passes import Work
from engine.explain.protocol import Perturbable
from engine.explain.rows import STABILITY

Explain = Callable[[Work, str], list[Explanation]]
_EPS = 1e-12
# Deviation of the noise, as a multiple of the embeddings' root mean square; units that stay on each side of a target.
NOISE, REACH = 0.01, 32


@dataclass(frozen=True)
class Copies:
    """One changed copy of every record: of each record the units `untouched` [n], which are compared, and whether the answer
    `held`. Noise touches none.

    `moved` [records] is the distance between the mean input embeddings of record and copy.
    """

    work: Work
    untouched: list[np.ndarray]
    held: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class Stability:
    """Stability of one explanation over the copies that kept the answer.

    `rank` is the mean Spearman correlation of weights, `jaccard` the mean overlap of the strongest tenth of the units,
    `lipschitz` the largest change of the weights over the change of the mean embedding (Alvarez-Melis and Jaakkola 2018). They
    are None if no
    copy counts: one without any change, or with fewer than two units to compare, does not. `units` [n] is 1 - min(1, deviation /
    mean) of each unit's weight, 1 if a unit is in fewer than two copies. `flip_rate` is the share of copies that changed the
    answer.
    """

    rank: float | None
    jaccard: float | None
    lipschitz: float | None
    flip_rate: float | None
    units: np.ndarray
    copies: int

    @property
    def value(self) -> float | None:
        """The mean correlation mapped to 0..1."""
        return None if self.rank is None else (self.rank + 1) / 2

    def checks(self) -> dict[str, float | None]:
        """Columns of the explanations table."""
        values = (self.value, self.jaccard, self.lipschitz, self.flip_rate)
        return {**dict(zip(STABILITY, values, strict=True)), "n_perturb": float(self.copies)}


def perturbed(work: Work, purpose: str = "perturb") -> list[Copies]:
    """The changed copies according to the settings, the same for every method; `purpose` is that of their random draws.

    `mask` blanks `perturb_share` of a record's units, at least one, and leaves a record of one unit as it is. The others change
    units of the text only: `replace` puts others of their class in place of as many, `noise` adds Gaussian noise to the
    embeddings of all, and `truncate` blanks those more than 32 from the target, in one copy only, as nothing is drawn. None of
    these four changes what a `Perturbable` model spares. `edge` blanks one unit of the target's edge, whether spared or not. A
    target that is no span has no edge, and nothing is far from it.

    Raises:
        ConfigError: the model has no such changes.
    """
    kind, count = work.settings.perturb, work.settings.perturbations
    if not work.records:
        return []
    if kind in ("replace", "noise") and not isinstance(work.model, Perturbable):
        raise ConfigError(f"explain.perturb: this model has no '{kind}'; choose mask")
    spared = _spared(work)
    return [_copy(work, draw, purpose, spared) for draw in range(min(1, count) if kind == "truncate" else count)]


def stability(
    work: Work, method: str, explanations: Sequence[Explanation], copies: Sequence[Copies], again: Explain = attribute
) -> list[Stability]:
    """Stability of each record's explanation; the method runs again on every copy."""
    pairs = [(copy, again(copy.work, method)) for copy in copies]
    results = []
    for record in range(work.records):
        seen = [
            (repeated[record].weight, copy.untouched[record], float(copy.moved[record]))
            for copy, repeated in pairs
            if copy.held[record] and repeated[record].status == OK
        ]
        flips = sum(not copy.held[record] for copy in copies)
        results.append(_stability(explanations[record].weight, seen, flips, len(copies)))
    return results


@torch.no_grad()
def _copy(work: Work, draw: int, purpose: str, spared: Sequence[np.ndarray]) -> Copies:
    untouched = [~_chosen(work, record, draw, purpose, spared[record]) for record in range(work.records)]
    seeds = [work.seed(record, f"{purpose} change", draw) for record in range(work.records)]
    held, moved = np.zeros(work.records, dtype=bool), np.zeros(work.records)
    keep = [work.keep(record, units) for record, units in enumerate(untouched)]
    for places, batch, targets in work.passes(range(work.records)):
        changed = _changed(work, batch, [keep[place] for place in places], [seeds[place] for place in places])
        held[places] = work.model.holds(changed, targets).cpu().numpy()
        step = work.model.embed(batch) - work.model.embed(changed)
        rows = torch.split(step, [int(work.sizes[place]) for place in places])
        moved[places] = [float(row.mean(0).norm()) if len(row) else 0.0 for row in rows]
    everything = _changed(work, work.batch, keep, seeds)
    if work.settings.perturb == "noise":
        untouched = [np.ones_like(flags) for flags in untouched]
    # Only the weights of a copy are compared, so it needs no residual.
    settings = replace(work.settings, residual=False)
    return Copies(Work(work.model, everything, work.targets, work.units, settings), untouched, held, moved)


def _changed(work: Work, batch: Any, keep: Sequence[np.ndarray], seeds: Sequence[int]) -> Any:
    """Records with the positions changed that are false in `keep` [positions of each]."""
    flags, model, kind = np.concatenate([np.empty(0, bool), *keep]), work.model, work.settings.perturb
    if kind == "replace" and isinstance(model, Perturbable):
        return model.replaced(batch, ~flags, seeds)
    if kind == "noise" and isinstance(model, Perturbable):
        return model.noised(batch, ~flags, seeds, NOISE)
    return model.erase(batch, flags)


def _spared(work: Work) -> list[np.ndarray]:
    """Flags of each record's units [n] that must not change: those with a position that the model spares."""
    if not isinstance(work.model, Perturbable):
        return [np.zeros(len(units), dtype=bool) for units in work.units]
    spared, of_model = work.model.spared(work.batch, work.targets), work.model.units(work.batch)
    flags = []
    for units, own, given in zip(work.units, of_model, spared, strict=True):
        of = units.of_position[np.append(given, False)[own.of_position]]
        flags.append(np.bincount(of[of >= 0], minlength=len(units)) > 0)
    return flags


def _chosen(work: Work, record: int, draw: int, purpose: str, spared: np.ndarray) -> np.ndarray:
    """Flags of the units [n] that a copy changes."""
    units, target, kind = work.units[record], work.names[record], work.settings.perturb
    free = ~spared
    if kind != "mask":
        free[len(units.start) :] = False
    if kind == "noise":
        return free
    if kind == "truncate":
        inside, place = inside_units(target, units.start, units.end), np.arange(len(units))
        return free & ((place < inside[0] - REACH) | (place > inside[-1] + REACH)) if len(inside) else np.zeros_like(free)
    pool = edge_units(target, units.start, units.end) if kind == "edge" else np.flatnonzero(free)
    chosen = np.zeros(len(units), dtype=bool)
    if len(units) > 1 and len(pool):
        count = 1 if kind == "edge" else max(1, round(work.settings.perturb_share * len(pool)))
        rng = np.random.default_rng(work.seed(record, purpose, draw))
        chosen[rng.choice(pool, count, replace=False)] = True
    return chosen


def _stability(weight: np.ndarray, seen: list[tuple[np.ndarray, np.ndarray, float]], flips: int, copies: int) -> Stability:
    flip_rate = flips / copies if copies else None
    seen = [(other, untouched, moved) for other, untouched, moved in seen if moved > 0 and untouched.sum() > 1]
    if not seen or not np.any(weight):
        return Stability(None, None, None, flip_rate, np.ones(len(weight)), copies)
    ranks, overlaps, slopes = [], [], []
    for other, untouched, moved in seen:
        ranks.append(spearman(weight[untouched], other[untouched]))
        overlaps.append(_overlap(weight[untouched], other[untouched]))
        slopes.append(float(np.linalg.norm(weight[untouched] - other[untouched])) / moved)
    values = np.stack([other for other, _, _ in seen])
    counted = np.stack([untouched for _, untouched, _ in seen]).astype(float)
    times = counted.sum(0)
    mean = (values * counted).sum(0) / np.maximum(times, 1)
    deviation = np.sqrt(((values - mean) ** 2 * counted).sum(0) / np.maximum(times, 1))
    units = np.where(times > 1, 1 - np.minimum(1, deviation / (mean + _EPS)), 1.0)
    return Stability(float(np.mean(ranks)), float(np.mean(overlaps)), max(slopes), flip_rate, units, copies)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two or more values; without any spread 1 if neither side has any, else 0."""
    ranks: list[Any] = [rankdata(values) for values in (a, b)]
    spread = [float(np.ptp(values)) if len(values) else 0.0 for values in ranks]
    if not all(spread):
        return float(not any(spread))
    return float(np.corrcoef(*ranks)[0, 1])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    count = max(1, round(0.1 * len(a)))
    first, second = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (a, b))
    return len(first & second) / len(first | second) if first | second else 1.0
