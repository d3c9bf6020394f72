"""The patches that the findings of a run rest on, by gradient times input over the cells of the images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.explain.explanation import weights
from engine.models.image_system import cell_boxes, flat_images

# Patches shown for a finding.
_SHOWN = 16


def evidence(system: Any, prepared: pa.Table, targets: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
    """The strongest patches of each study for each of its `targets`, numbers of findings: values of `engine.records.REGION`.

    A patch's score is what the finding's logit owes it to first order, compared with a mid-grey image. Those that speak for the
    finding come first; if none does, those that speak most against it are shown. Weights are shares of all of a study's patches.
    The passes of a study are shared by its findings. `system` is the `FindingSystem`.

    Raises:
        ValueError: a score is not finite.
    """
    images, counts = flat_images(prepared)
    starts, rows = np.cumsum([0, *counts]), [[] for _ in targets]
    for studies in _together(
        [count if of_study else 0 for count, of_study in zip(counts, targets, strict=True)], system.batch_images
    ):
        spans = [range(starts[study], starts[study + 1]) for study in studies]
        part = images.take(pa.array([image for span in spans for image in span]))
        scores = _scores(system, part, [len(span) for span in spans], [targets[study] for study in studies])
        for study, span, by_finding in zip(studies, spans, scores, strict=True):
            about = [image.as_py() for image in images.take(pa.array(list(span))).field("place")]
            boxes = np.stack([cell_boxes({"place": place}, system.preprocessing.side, system.grid) for place in about])
            for finding, values in by_finding.items():
                rows[study] += [{"label": system.names[finding], **region} for region in _strongest(values, boxes)]
    return rows


def _together(counts: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Neighbouring studies with at most `budget` images, at least one study at a time; those without images are left out."""
    group: list[int] = []
    size = 0
    for study, count in enumerate(counts):
        if group and size + count > budget:
            yield group
            group, size = [], 0
        if count:
            group.append(study)
            size += count
    if group:
        yield group


def _scores(
    system: Any, images: pa.StructArray, counts: Sequence[int], targets: Sequence[Sequence[int]]
) -> list[dict[int, np.ndarray]]:
    """Scores [images, cells] in float64 of each study for each of its findings."""
    with torch.no_grad():
        cells = torch.cat([system.cells(pixels).float() for pixels in system.batches(images)])
        blank = system.blank().float()
    scores: list[dict[int, np.ndarray]] = [{} for _ in counts]
    with torch.enable_grad():
        leaf = cells.detach().requires_grad_()
        logits = system.predict(system.joined(system.pooled(leaf), counts))
        for finding in sorted({finding for of_study in targets for finding in of_study}):
            (slope,) = torch.autograd.grad(logits[:, finding].sum(), leaf, retain_graph=True)
            values = ((cells - blank).double() * slope.double()).sum(-1).cpu().numpy()
            for study, own in enumerate(np.split(values, np.cumsum(counts)[:-1])):
                if finding in targets[study]:
                    scores[study][finding] = own
    return scores


def _strongest(scores: np.ndarray, boxes: np.ndarray) -> Iterator[dict[str, Any]]:
    """The patches to show, of scores [images, cells] with boxes [images, cells, 4]; those outside the image are not shown."""
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    share = weights(scores)
    inside = ~np.isnan(boxes).any(-1)
    supports = inside & (scores > 0)
    chosen, strength = (supports, scores) if supports.any() else (inside & (scores < 0), share)
    order = np.argsort(-strength, axis=None, kind="stable")
    for image, cell in zip(*np.unravel_index(order[chosen.ravel()[order]][:_SHOWN], scores.shape), strict=True):
        box = dict(zip(("x0", "y0", "x1", "y1"), boxes[image, cell].tolist(), strict=True))
        yield {"image": int(image), **box, "score": float(scores[image, cell]), "weight": float(share[image, cell])}
