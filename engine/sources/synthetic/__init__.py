"""The synthetic corpora: pathology reports with gold codes and the words that decide them, texts that must not be coded, and
Chinese records of patients with atopic dermatitis, with gold entities."""

from engine.sources.synthetic.dermatology import Dermatology
from engine.sources.synthetic.generate import SCHEMA, SKEWS, Settings, generate
from engine.sources.synthetic.unreportable import Unreportable
from engine.sources.synthetic.write import CorpusConfig, CorpusSummary, write

__all__ = [
    "SCHEMA",
    "SKEWS",
    "CorpusConfig",
    "CorpusSummary",
    "Dermatology",
    "Settings",
    "Unreportable",
    "generate",
    "write",
]
