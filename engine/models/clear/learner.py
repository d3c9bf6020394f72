"""The learner of the dual encoder: pairs of image and report, compared with all pairs of a step, whichever worker has them.

An example is an image of a study and its report. Each side is either the output of a frozen encoder, computed once, or what an
encoder that is trained reads: pixels, or tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import all_gather

from engine.models.base import Worker
from engine.models.clear.network import DualEncoder, contrastive_losses
from engine.models.clear.towers import ImageTower, TextTower, Tower
from engine.models.columns import list_values
from engine.models.examples import Source

# Valid pairs among which a report is sought; more would only make the task harder.
_SOUGHT = 256


@dataclass(frozen=True)
class Pairs:
    """Examples: what each side's tower reads, and a number for each text, equal for equal texts."""

    images: Sequence[np.ndarray]
    texts: Sequence[np.ndarray]
    keys: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> "Pairs":
        return cls(_rows(table["image"]), list_values(table["text"]), table["key"].to_numpy())


def _rows(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Features in lists, or pixels as bytes."""
    if pa.types.is_binary(column.type):
        return [np.frombuffer(pixels, np.uint8) for pixels in column.to_pylist()]
    return list_values(column)


class PairLearner:
    """See `engine.training.loop.Learner`."""

    def __init__(self, dual: DualEncoder, image: Tower, text: Tower, source: Source, seed: int, worker: Worker) -> None:
        self.dual, self.image, self.text = (each.to(worker.device) for each in (dual, image, text))
        self.source, self.seed, self.worker = source, seed, worker

    def parameters(self) -> Mapping[str, Tensor]:
        towers: dict[str, nn.Module] = {"dual": self.dual, "image": self.image, "text": self.text}
        return {f"{name}.{key}": value for name, tower in towers.items() for key, value in tower.named_parameters()}

    def rates(self) -> Mapping[str, tuple[float, float]]:
        """Scales and offsets of norms, and the logit scale, are not drawn towards 0."""
        return {name: (1.0, 0.0) for name, value in self.parameters().items() if value.ndim < 2}

    def order(self, epoch: int) -> Sequence[int]:
        return self.source.order(epoch, -1.0, self.seed)

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        for module in (self.dual, self.image, self.text):
            module.train()
        pairs, members = self.source.hold(examples, epoch)
        image, text, keys = self._encoded(pairs, members)
        first, every_image, every_text, every_key = self._gathered(image, text, keys)
        own = torch.arange(first, first + len(keys), device=keys.device)
        same = keys[:, None] == every_key
        losses = contrastive_losses(image, text, self.dual.scale, every_image, every_text, own, same)
        # A worker without pairs must still take part when the gradients of the others come back.
        yield {"pairs": losses.sum() + 0 * (every_image.sum() + every_text.sum())}, len(members)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """`recall_5`: the share of valid images whose report is among the five nearest of at most 256 different ones; `rank`: the
        mean share of the other reports that are farther away."""
        for module in (self.dual, self.image, self.text):
            module.eval()
        parts = [self._encoded(pairs, members) for pairs, members in self.source.held_back()]
        if not parts or not sum(len(keys) for _, _, keys in parts):
            return {"recall_5": 0.0, "rank": 0.0}
        image, text, keys = (torch.cat(each) for each in zip(*parts, strict=True))
        kept = torch.tensor(np.unique(keys.cpu().numpy(), return_index=True)[1][:_SOUGHT], device=image.device)
        image, text = image[kept], text[kept]
        scores = image @ text.T
        nearer = (scores > scores.diagonal()[:, None]).sum(1).float()
        share = nearer / max(1, len(kept) - 1)
        return {"recall_5": float((nearer < 5).float().mean()), "rank": float(1 - share.mean())}

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {"scale": (float(self.dual.scale.detach()), 1)}

    def close(self) -> None:
        self.source.close()

    def _encoded(self, pairs: Pairs, members: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Directions of images and texts [n, width], and the texts' keys [n]."""
        device = self.worker.device
        if not members:
            image, text = (tower.linear.weight.T[:0] for tower in (self.dual.image, self.dual.text))
            return image, text, torch.zeros(0, dtype=torch.int64, device=device)
        image = self.dual.image(self.image([pairs.images[member] for member in members]))
        text = self.dual.text(self.text([pairs.texts[member] for member in members]))
        return image, text, torch.from_numpy(pairs.keys[list(members)]).to(device)

    def _gathered(self, image: Tensor, text: Tensor, keys: Tensor) -> tuple[int, Tensor, Tensor, Tensor]:
        """The place of this worker's first pair among those of all workers, and all images, texts and keys. Gradients flow back
        to the worker that a pair came from."""
        world = self.worker.world
        if world == 1:
            return 0, image, text, keys
        counts = [torch.zeros(1, dtype=torch.int64, device=keys.device) for _ in range(world)]
        dist.all_gather(counts, torch.tensor([len(keys)], device=keys.device))
        sizes = [int(count) for count in counts]
        # Collectives want equal shapes: the last step of an epoch may leave a worker fewer pairs.
        spare = max(sizes) - len(keys)
        padded = [torch.cat([each, each.new_zeros(spare, each.shape[1])]) for each in (image, text)]
        every = [torch.cat([part[:size] for part, size in zip(all_gather(each), sizes, strict=True)]) for each in padded]
        parts = [torch.zeros(max(sizes), dtype=torch.int64, device=keys.device) for _ in range(world)]
        dist.all_gather(parts, torch.cat([keys, keys.new_zeros(spare)]))
        every_key = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return sum(sizes[: self.worker.rank]), every[0], every[1], every_key


def learner(settings: Mapping[str, Any], worker: Worker) -> PairLearner:
    """The learner as a training begins: frozen or pretrained encoders, new projections drawn from the seed."""
    stored = worker.examples(settings["examples"])
    facts = stored.facts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        dual = DualEncoder(facts["image_features"], facts["text_features"], settings["model"]["width"])
    image = ImageTower.of(settings) if settings["learn"]["image"] else Tower()
    text = TextTower.of(settings) if settings["learn"]["text"] else Tower()
    source = stored.stream(Pairs.of, settings["data"]["held"])
    return PairLearner(dual, image, text, source, settings["seed"], worker)
