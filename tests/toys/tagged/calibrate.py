"""How a user's own marked texts set its threshold."""

from engine.models.entities.calibrate import WORK, Settings

__all__ = ["WORK", "Settings"]
