"""The entities of a run, explained."""

from engine.models.entities.explained import explained as load

__all__ = ["load"]
