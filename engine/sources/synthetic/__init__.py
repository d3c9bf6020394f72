"""The synthetic corpora: pathology reports with gold codes and the words that decide them, and texts that must not be coded."""

from engine.sources.synthetic.generate import SCHEMA, SKEWS, Settings, generate
from engine.sources.synthetic.unreportable import Unreportable
from engine.sources.synthetic.write import CorpusConfig, CorpusSummary, write

__all__ = ["SCHEMA", "SKEWS", "CorpusConfig", "CorpusSummary", "Settings", "Unreportable", "generate", "write"]
