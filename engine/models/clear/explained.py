"""How its answers are explained by patches; by concepts every row explains itself."""

from engine.models.findings.explained import explained as load

__all__ = ["load"]
