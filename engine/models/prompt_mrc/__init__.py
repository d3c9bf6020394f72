"""Entities by machine reading: a query for each type in front of the text, hard words and learned vectors, spans as answers."""

from engine.models.prompt_mrc.extractor import TABLE, Extractor
from engine.models.prompt_mrc.options import Options

__all__ = ["DEFAULT", "TABLE", "Extractor", "Options", "load"]

load = Extractor.load
# It fills its table where no system is named.
DEFAULT = True
