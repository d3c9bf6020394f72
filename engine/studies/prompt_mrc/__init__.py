"""Fits and measures of the studies of Prompt-bioMRC."""
