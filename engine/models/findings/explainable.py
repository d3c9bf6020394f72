"""Systems of findings as models that every method of `engine.explain` can explain: whole studies, one finding at a time.

The positions of a study are the cells of all its images, and its units are the same cells. The blank of a cell is that of a
mid-grey image; an erased cell is blanked, whatever its neighbours saw of its pixels before.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from engine.errors import ContractError
from engine.explain.explanation import Target
from engine.explain.rules import relevance_rules
from engine.models.findings.decide import FindingCalibration
from engine.models.image_system import cell_boxes, flat_images
from engine.text.units import Units

if TYPE_CHECKING:
    from engine.models.findings.system import FindingSystem


@dataclass(frozen=True)
class Studies:
    """Studies as cells [images, cells, c], with their units and ids in the same order; `kept` [positions] is false where a
    cell is erased."""

    cells: Sequence[Tensor]
    units: Sequence[Units]
    record_ids: Sequence[str]
    kept: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.cells)


class FindingExplainable:
    """See `engine.explain.protocol.Explainable`. A target [2] is the number of a finding, and whether it is called positive."""

    score_kind = "logit"
    own_methods: frozenset[str] = frozenset()

    def __init__(self, system: "FindingSystem") -> None:
        self.system, self.names = system, system.names

    @torch.no_grad()
    def studies(self, prepared: pa.Table) -> Studies:
        """Prepared rows as a batch."""
        images, counts = flat_images(prepared)
        cells = torch.cat([self.system.cells(pixels).float() for pixels in self.system.batches(images)])
        boxes = [
            cell_boxes({"place": place}, self.system.preprocessing.side, self.system.grid)
            for place in images.field("place").to_pylist()
        ]
        units, start = [], 0
        for count in counts:
            numbered = [np.column_stack([np.full(len(own), at), own]) for at, own in enumerate(boxes[start : start + count])]
            at = np.arange(sum(map(len, numbered)))
            units.append(Units("patch", at, at + 1, at, boxes=np.concatenate(numbered)))
            start += count
        kept = [np.ones(len(each), dtype=bool) for each in units]
        return Studies(torch.split(cells, counts), units, prepared["record_id"].to_pylist(), kept)

    def record_ids(self, batch: Studies) -> list[str]:
        return list(batch.record_ids)

    def sizes(self, batch: Studies) -> np.ndarray:
        return np.array([len(units) for units in batch.units], dtype=np.int64)

    def units(self, batch: Studies) -> list[Units]:
        return list(batch.units)

    def named(self, batch: Studies, targets: Tensor) -> list[Target]:
        return [Target(self.names[finding], "label") for finding in targets[:, 0].tolist()]

    def take(self, batch: Studies, members: Sequence[int]) -> Studies:
        return Studies(*([column[member] for member in members] for column in vars(batch).values()))

    def erase(self, batch: Studies, keep: np.ndarray, how: str = "mask") -> Studies:
        if how != "mask":
            raise ContractError("nothing can be taken out of an image")
        flags = np.split(keep, np.cumsum(self.sizes(batch))[:-1])
        return replace(batch, kept=[old & new for old, new in zip(batch.kept, flags, strict=True)])

    @torch.no_grad()
    def embed(self, batch: Studies) -> Tensor:
        cells = torch.cat([each.flatten(0, 1) for each in batch.cells])
        kept = torch.from_numpy(np.concatenate(batch.kept)).to(cells.device)
        return cells if bool(kept.all()) else torch.where(kept.unsqueeze(-1), cells, self.blank(batch))

    @torch.no_grad()
    def blank(self, batch: Studies) -> Tensor:
        return self.system.blank().float().repeat(sum(map(len, batch.cells)), 1)

    def logits(self, batch: Studies, embeds: Tensor | None = None) -> Tensor:
        """Logits [records, findings], from cells [positions, c] if given."""
        cells = self.embed(batch) if embeds is None else embeds
        images = self.system.pooled(cells.unflatten(0, (-1, batch.cells[0].shape[1])))
        return self.system.predict(self.system.joined(images, list(map(len, batch.cells))))

    def score(self, batch: Studies, targets: Tensor, *, embeds: Tensor | None = None) -> Tensor:
        logits = self.logits(batch, embeds)
        return logits.gather(1, targets[:, :1].to(logits.device)).squeeze(1)

    def probability(self, batch: Studies, targets: Tensor) -> Tensor:
        logits, numbers = self.score(batch, targets).detach().double().cpu().numpy(), targets[:, 0].tolist()
        values = [self._calibration(number).probabilities(logit) for number, logit in zip(numbers, logits, strict=True)]
        return torch.tensor(np.array(values, np.float64))

    def holds(self, batch: Studies, targets: Tensor) -> Tensor:
        prob = self.probability(batch, targets).numpy().astype(np.float32)
        pairs = zip(targets[:, 0].tolist(), prob, strict=True)
        positive = np.array([self._calibration(number).positive(value) for number, value in pairs], bool)
        return torch.from_numpy(positive == targets[:, 1].numpy().astype(bool))

    def relevance_rules(self) -> AbstractContextManager[None]:
        """The rules of a transformers encoder; any other one counts as linear in its cells."""
        models = [
            each for each in self.system.network.modules() if hasattr(getattr(each, "config", None), "_attn_implementation")
        ]
        return relevance_rules(models[0]) if models else nullcontext()

    def own(self, method: str, batch: Studies, targets: Tensor) -> Tensor:
        raise ContractError(f"a system of findings has no method '{method}' of its own")

    def _calibration(self, number: int) -> FindingCalibration:
        return self.system.calibration[self.names[number]]
