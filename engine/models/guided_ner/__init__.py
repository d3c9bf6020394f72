"""Entities by tags: a tagger of characters or words whose explanations are measured and, in training, guided."""

from engine.models.guided_ner.tagger import Options, Tagger

__all__ = ["TABLE", "Options", "Tagger", "load"]

TABLE, load = Tagger.table, Tagger.load
