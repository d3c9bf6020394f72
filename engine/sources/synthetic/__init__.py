"""The synthetic corpus: pathology reports that nobody wrote, with gold codes and the words that decide them."""

from engine.sources.synthetic.generate import SCHEMA, Settings, generate

__all__ = ["SCHEMA", "Settings", "generate"]
