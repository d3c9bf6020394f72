"""How a user's own labelled studies set its thresholds."""

from engine.models.findings.calibrate import WORK, Settings

__all__ = ["WORK", "Settings"]
