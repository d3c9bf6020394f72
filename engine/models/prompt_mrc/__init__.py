"""Entities by machine reading: a query for each type in front of the text, hard words and learned vectors, spans as answers."""

from engine.models.prompt_mrc.extractor import Extractor

__all__ = ["DEFAULT", "TABLE", "Extractor", "Options", "load"]

TABLE, Options, load = Extractor.table, Extractor.Options, Extractor.load
# It fills its table where no system is named.
DEFAULT = True
