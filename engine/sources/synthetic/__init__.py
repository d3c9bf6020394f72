"""The synthetic corpora: pathology reports with gold codes and the words that decide them, texts that must not be coded,
Chinese records of patients with atopic dermatitis, with gold entities, and chest radiographs with known findings."""

from engine.sources.synthetic.dermatology import Dermatology
from engine.sources.synthetic.generate import SCHEMA, SKEWS, Settings, generate
from engine.sources.synthetic.radiographs import Radiographs
from engine.sources.synthetic.unreportable import Unreportable
from engine.sources.synthetic.write import CorpusConfig, CorpusSummary, write

__all__ = [
    "SCHEMA",
    "SKEWS",
    "CorpusConfig",
    "CorpusSummary",
    "Dermatology",
    "Radiographs",
    "Settings",
    "Unreportable",
    "generate",
    "write",
]
