"""The tagger's own part of the GPU check, see `engine.benchmarks.gpu_check`."""

from typing import TYPE_CHECKING

import pyarrow as pa

from engine.models.entities import gpu_check
from engine.models.entities.gpu_check import unsure

if TYPE_CHECKING:
    from engine.models.guided_ner.tagger import Tagger

__all__ = ["extra", "unsure"]


def extra(system: "Tagger", prepared: pa.Table) -> dict[str, bool]:
    """Whether on this device every entity gets evidence, and saliency has a gradient of its own, as guided training needs."""
    return {**gpu_check.extra(system, prepared), "double backward": _double_backward(system, prepared)}


def _double_backward(system: "Tagger", prepared: pa.Table) -> bool:
    """Through math attention: fused kernels have no second derivative."""
    import torch

    from engine.models.entities.spans import collate
    from engine.models.guided_ner.checkpoint import build_network
    from engine.models.guided_ner.constraints import gradient_saliency

    network = build_network(system.checkpoint, torch.float32).to(system.device).requires_grad_()
    window = system.windows(prepared)[0][0]
    batch = collate([window], system.config.special).to(system.device)
    embeds = network.embed(batch.ids)
    score = network(batch, embeds)[:, 1:].logsumexp(-1).sum(1)
    words = torch.zeros_like(batch.ids)
    words[0, 1 : 1 + len(window)] = torch.arange(len(window), device=words.device)
    saliency = gradient_saliency(score, embeds, batch.text.float(), words, len(window))
    (saliency**2).sum().backward()
    slopes = [value.grad for value in network.encoder.parameters() if value.grad is not None]
    return bool(slopes) and all(bool(slope.isfinite().all()) for slope in slopes) and any(bool(slope.any()) for slope in slopes)
