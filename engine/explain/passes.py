"""Passes through the model that all methods share: records and their changed copies, as many at a time as memory allows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.batching import token_budget_batches
from engine.errors import ContractError
from engine.explain.explanation import Target
from engine.explain.protocol import Explainable
from engine.explain.settings import Settings
from engine.records import seed_of
from engine.text.units import Units

Variant = tuple[int, np.ndarray]
"""A copy of a record with units erased: the record's number, and flags [n] of the units to keep or numbers of those to erase."""


@dataclass(frozen=True)
class Work:
    """Records to explain, and the units that get a score."""

    model: Explainable
    batch: Any
    targets: Tensor
    units: Sequence[Units]
    settings: Settings

    def __post_init__(self) -> None:
        if not len(self.targets) == len(self.sizes) == len(self.units):
            raise ContractError(f"{len(self.sizes)} records, {len(self.targets)} targets, units of {len(self.units)}")
        if any(len(units.of_position) != size for units, size in zip(self.units, self.sizes, strict=True)):
            raise ContractError("units do not belong to these records: another number of positions")

    @cached_property
    def sizes(self) -> np.ndarray:
        return np.asarray(self.model.sizes(self.batch))

    @cached_property
    def ids(self) -> list[str]:
        return self.model.record_ids(self.batch)

    @cached_property
    def names(self) -> list[Target]:
        return self.model.named(self.batch, self.targets)

    @property
    def records(self) -> int:
        return len(self.sizes)

    def seed(self, record: int, purpose: str, draw: int = 0) -> int:
        """The seed of one draw: the same in every batch."""
        return seed_of(self.ids[record], self.names[record].name, purpose, draw, self.settings.seed)

    def only(self, members: Sequence[int]) -> "Work":
        """The work reduced to some of the records."""
        members = list(members)
        batch = self.model.take(self.batch, members)
        return Work(self.model, batch, self.targets[members], [self.units[m] for m in members], self.settings)

    def passes(self, members: Sequence[int]) -> Iterator[tuple[list[int], Any, Tensor]]:
        """Records (each may come several times) in groups that fit one pass: places in `members`, batch, targets."""
        sizes = np.maximum(self.sizes[np.asarray(members, dtype=np.int64)], 1)
        for places in token_budget_batches(sizes, np.ones_like(sizes), self.settings.tokens_per_pass):
            chosen = [int(members[place]) for place in places]
            yield places, self.model.take(self.batch, chosen), self.targets[chosen]

    def keep(self, record: int, units: np.ndarray) -> np.ndarray:
        """Flags of the positions [positions] to keep in a variant; those that belong to no unit are always kept."""
        stay = np.ones(len(self.units[record]) + 1, dtype=bool)
        if units.dtype == bool:
            stay[:-1] = units
        else:
            stay[units] = False
        return stay[self.units[record].of_position]

    def split(self, members: Sequence[int], values: Tensor) -> list[np.ndarray]:
        """A flat row [positions] of these records, split into one array per record."""
        flat = values.detach().double().cpu().numpy()
        return np.split(flat, np.cumsum(self.sizes[np.asarray(members, dtype=np.int64)])[:-1])

    def to_units(self, record: int, values: np.ndarray) -> np.ndarray:
        """Position scores [positions] summed to units [n]."""
        of = self.units[record].of_position
        return np.bincount(of[of >= 0], weights=values[of >= 0], minlength=len(self.units[record]))

    def unit_scores(self, score: Callable[[list[int], Any, Tensor], Tensor]) -> list[np.ndarray]:
        """Scores [n] of each record's units, from `score(records, batch, targets)`, the scores [positions] of one pass."""
        units: list[Any] = [None] * self.records
        for places, batch, targets in self.passes(range(self.records)):
            for place, values in zip(places, self.split(places, score(places, batch, targets)), strict=True):
                units[place] = self.to_units(place, values)
        return units

    def uniform(self, keep: bool) -> list[Variant]:
        """A variant of each record that keeps, or erases, all of its units."""
        return [(record, np.full(len(units), keep)) for record, units in enumerate(self.units)]

    def erased(self, variants: Sequence[Variant], read: str = "score", how: str = "mask") -> np.ndarray:
        """The model's `score` or `probability` [variants]."""
        return erased([self], variants, read, how)[0]

    def whole(self, read: str = "score") -> np.ndarray:
        """The model's `score` or `probability` [records] of the unchanged records."""
        return self.erased(self.uniform(True), read)

    def bare(self) -> np.ndarray:
        """The model's score [records] with every unit erased."""
        return self.erased(self.uniform(False))

    def baseline(self, members: Sequence[int], batch: Any, embeds: Tensor, kind: str) -> Tensor:
        """The baseline of gradients of these records [positions, d]: the blank or zero for positions of a unit, the embedding
        itself for the others."""
        inside = np.concatenate([self.units[member].of_position >= 0 for member in members])
        empty = self.model.blank(batch) if kind == "mask" else torch.zeros_like(embeds)
        return torch.where(torch.from_numpy(inside).to(embeds.device).unsqueeze(-1), empty.to(embeds), embeds)


@dataclass(frozen=True)
class Scores:
    """Unit scores [n] of each record; F of the records and at the method's baseline [records], if the method computes them."""

    units: list[np.ndarray]
    whole: np.ndarray | None = None
    bare: np.ndarray | None = None


@torch.no_grad()
def erased(works: Sequence[Work], variants: Sequence[Variant], read: str = "score", how: str = "mask") -> np.ndarray:
    """The `score` or `probability` [works, variants] of several targets of the same records in the same copies.

    Each copy is evaluated for all targets at once, so their models may share computations.

    Raises:
        ContractError: the works have different records.
    """
    first = works[0]
    if any(work.ids != first.ids or not np.array_equal(work.sizes, first.sizes) for work in works):
        raise ContractError("copies are shared by targets of the same records only")
    results = np.zeros((len(works), len(variants)))
    for places, batch, _ in first.passes([record for record, _ in variants]):
        changed = first.model.erase(batch, np.concatenate([first.keep(*variants[place]) for place in places]), how)
        members = [variants[place][0] for place in places]
        for row, work in zip(results, works, strict=True):
            evaluate = work.model.score if read == "score" else work.model.probability
            row[places] = evaluate(changed, work.targets[members]).double().cpu().numpy()
    return results
