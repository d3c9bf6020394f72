"""The synthetic corpus: pathology reports that nobody wrote, with gold codes and the words that decide them."""

from engine.sources.synthetic.generate import SCHEMA, SKEWS, Settings, generate
from engine.sources.synthetic.write import CorpusConfig, CorpusSummary, write

__all__ = ["SCHEMA", "SKEWS", "CorpusConfig", "CorpusSummary", "Settings", "generate", "write"]
