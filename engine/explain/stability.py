"""Stability: does the same answer keep the same explanation when the record is changed slightly?

Each copy masks some units at random. If that changes the answer, the copy tells nothing about the explanation: it is left out and
counted in the flip rate. Explanations are compared over the units that are not masked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from engine.explain.explanation import OK, Explanation
from engine.explain.methods import attribute
from engine.explain.passes import Work
from engine.explain.rows import STABILITY

Explain = Callable[[Work, str], list[Explanation]]
_EPS = 1e-12


@dataclass(frozen=True)
class Copies:
    """One changed copy of every record: of each record the units left untouched [n], and whether the answer `held`.

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


def perturbed(work: Work) -> list[Copies]:
    """The changed copies according to the settings, the same for every method.

    Each masks `perturb_share` of a record's units, at least one; a record of one unit stays unchanged.
    """
    return [_copy(work, draw) for draw in range(work.settings.perturbations)] if work.records else []


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
def _copy(work: Work, draw: int) -> Copies:
    untouched = [_untouched(work, record, draw) for record in range(work.records)]
    held, moved = np.zeros(work.records, dtype=bool), np.zeros(work.records)
    keep = [work.keep(record, units) for record, units in enumerate(untouched)]
    for places, batch, targets in work.passes(range(work.records)):
        changed = work.model.erase(batch, np.concatenate([keep[place] for place in places]))
        held[places] = work.model.holds(changed, targets).cpu().numpy()
        step = work.model.embed(batch) - work.model.embed(changed)
        rows = torch.split(step, [int(work.sizes[place]) for place in places])
        moved[places] = [float(row.mean(0).norm()) if len(row) else 0.0 for row in rows]
    everything = work.model.erase(work.batch, np.concatenate([np.empty(0, bool), *keep]))
    # Only the weights of a copy are compared, so it needs no residual.
    settings = replace(work.settings, residual=False)
    return Copies(Work(work.model, everything, work.targets, work.units, settings), untouched, held, moved)


def _untouched(work: Work, record: int, draw: int) -> np.ndarray:
    count = len(work.units[record])
    untouched = np.ones(count, dtype=bool)
    if count > 1:
        rng = np.random.default_rng(work.seed(record, "perturb", draw))
        untouched[rng.choice(count, max(1, round(work.settings.perturb_share * count)), replace=False)] = False
    return untouched


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
