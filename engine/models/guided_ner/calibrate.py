"""How a user's own marked texts set the tagger's threshold."""

from engine.models.entities.calibrate import WORK, Settings

__all__ = ["WORK", "Settings"]
