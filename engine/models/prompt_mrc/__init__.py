"""Entities by machine reading: a query for each type in front of the text, hard words and learned vectors, spans as answers."""

from engine.models.prompt_mrc.extractor import TABLE, Extractor
from engine.models.prompt_mrc.options import Options

__all__ = ["TABLE", "Extractor", "Options", "load"]

load = Extractor.load
