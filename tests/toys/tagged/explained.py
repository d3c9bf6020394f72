"""How its entities are explained."""

from engine.models.entities.explained import explained as load

__all__ = ["load"]
