"""The corpus of what is not reportable: benign and normal findings, letters, laboratory values, noise."""

from engine.sources.synthetic.unreportable.generate import EDITION, SCHEMA, Unreportable, blocks, generate, kinds

__all__ = ["EDITION", "SCHEMA", "Unreportable", "blocks", "generate", "kinds"]
