"""How its findings are explained."""

from engine.models.findings.explained import explained as load

__all__ = ["load"]
