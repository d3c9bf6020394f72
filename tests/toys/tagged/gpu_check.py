"""Its part of the GPU check."""

from engine.models.entities.gpu_check import extra, unsure

__all__ = ["extra", "unsure"]
