"""How a user's own marked texts set the extractor's thresholds."""

from engine.models.entities.calibrate import WORK, Settings

__all__ = ["WORK", "Settings"]
