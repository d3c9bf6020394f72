"""Work shared by the methods: records and their changed copies through the model, so many at a time as memory is allowed."""

from collections.abc import Iterator, Sequence
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
"""A copy of a record with units erased: the record, and flags [n] of the units that stay or numbers of those that go."""


@dataclass(frozen=True)
class Work:
    """Records to explain, with the units their scores are for. `units` default to the model's own."""

    model: Explainable
    batch: Any
    targets: Tensor
    units: Sequence[Units]
    settings: Settings

    def __post_init__(self) -> None:
        if not len(self.targets) == len(self.sizes) == len(self.units):
            raise ContractError(f"{len(self.sizes)} records, {len(self.targets)} targets, units of {len(self.units)}")
        if any(len(units.of_position) != size for units, size in zip(self.units, self.sizes, strict=True)):
            raise ContractError("units are not of these records: another number of positions")

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
        """The seed of one draw: the same wherever the record is met."""
        return seed_of(self.ids[record], self.names[record].name, purpose, draw, self.settings.seed)

    def only(self, members: Sequence[int]) -> "Work":
        """The work of some of the records."""
        chosen = list(members)
        batch = self.model.take(self.batch, chosen)
        return Work(self.model, batch, self.targets[chosen], [self.units[m] for m in chosen], self.settings)

    def passes(self, members: Sequence[int]) -> Iterator[tuple[list[int], Any, Tensor]]:
        """Records (a record may come more than once) in groups that one pass may hold: places in `members`, batch, targets."""
        sizes = np.maximum(self.sizes[np.asarray(members, dtype=np.int64)], 1)
        for places in token_budget_batches(sizes, np.ones_like(sizes), self.settings.tokens_per_pass):
            chosen = [int(members[place]) for place in places]
            yield places, self.model.take(self.batch, chosen), self.targets[chosen]

    def keep(self, record: int, units: np.ndarray) -> np.ndarray:
        """Which positions stay [positions] in a variant; what belongs to no unit always stays."""
        stay = np.ones(len(self.units[record]) + 1, dtype=bool)
        if units.dtype == bool:
            stay[:-1] = units
        else:
            stay[units] = False
        return stay[self.units[record].of_position]

    def split(self, members: Sequence[int], values: Tensor) -> list[np.ndarray]:
        """A flat row [positions] of these records, cut into one array a record."""
        flat = values.detach().double().cpu().numpy()
        return np.split(flat, np.cumsum(self.sizes[np.asarray(members, dtype=np.int64)])[:-1])

    def to_units(self, record: int, values: np.ndarray) -> np.ndarray:
        """Position scores [positions] summed to units [n]."""
        of = self.units[record].of_position
        return np.bincount(of[of >= 0], weights=values[of >= 0], minlength=len(self.units[record]))

    def erased(self, variants: Sequence[Variant], read: str = "score", how: str = "mask") -> np.ndarray:
        """The model's `score` or `probability` [variants]."""
        return erased([self], variants, read, how)[0]

    def whole(self, read: str = "score") -> np.ndarray:
        """The reading [records] of the records as they are."""
        return self.erased([(r, np.ones(len(u), dtype=bool)) for r, u in enumerate(self.units)], read)

    def bare(self, read: str = "score", how: str = "mask") -> np.ndarray:
        """The reading [records] with every unit erased."""
        return self.erased([(r, np.zeros(len(u), dtype=bool)) for r, u in enumerate(self.units)], read, how)

    def baseline(self, members: Sequence[int], batch: Any, embeds: Tensor, kind: str) -> Tensor:
        """Where gradients of these records start from [positions, d]: the blank or zero for what belongs to a unit, itself for
        the rest."""
        inside = np.concatenate([self.units[member].of_position >= 0 for member in members])
        empty = self.model.blank(batch) if kind == "mask" else torch.zeros_like(embeds)
        return torch.where(torch.from_numpy(inside).to(embeds.device).unsqueeze(-1), empty.to(embeds), embeds)


@dataclass(frozen=True)
class Scores:
    """Unit scores [n] of each record; F of the records and at the method's baseline [records], where the method knows them."""

    units: list[np.ndarray]
    whole: np.ndarray | None = None
    bare: np.ndarray | None = None


@torch.no_grad()
def erased(works: Sequence[Work], variants: Sequence[Variant], read: str = "score", how: str = "mask") -> np.ndarray:
    """What several targets of the same records become in the same copies: `score` or `probability` [works, variants].

    A copy is read for all targets while it is at hand, so that their models may share what they make of it.

    Raises:
        ContractError: the works are not of the same records.
    """
    first = works[0]
    if any(work.ids != first.ids or not np.array_equal(work.sizes, first.sizes) for work in works):
        raise ContractError("copies are shared by targets of the same records only")
    found = np.zeros((len(works), len(variants)))
    for places, batch, _ in first.passes([record for record, _ in variants]):
        changed = first.model.erase(batch, np.concatenate([first.keep(*variants[place]) for place in places]), how)
        members = [variants[place][0] for place in places]
        for row, work in zip(found, works, strict=True):
            ask = work.model.score if read == "score" else work.model.probability
            row[places] = ask(changed, work.targets[members]).double().cpu().numpy()
    return found
